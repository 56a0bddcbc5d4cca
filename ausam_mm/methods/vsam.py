"""vSAM: SAM's second-order part, sampled as often as it varies."""

import math
from typing import Any

import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import is_number, require
from ..engine import (
    ParamState,
    Step,
    TwoPassOptimWrapper,
    gradients,
    vector_norm,
)


@OPTIM_WRAPPERS.register_module()
class VSAM(TwoPassOptimWrapper):
    """Variation-based SAM: SAM's gradient less the one at w is reused.

    Deng et al., "Effective Gradient Sample Size via Variation Estimation for
    Accelerating Sharpness aware Minimization", 2024 (arXiv 2403.08821).

    1. SAM's gradient is g + PSF, the projection of the second-order gradient
       matrix onto the first-order gradient.
    2. In the steps that sample it: SAM; PSF = g_s - g is kept.
    3. Else: one pass; step with g + reuse^j * PSF, j steps after it was
       sampled.
    4. After every K steps the sampled ratio of the next K follows how much
       the norm of PSF varied among these: rate * v / v_last, between
       ``min_rate`` and 1, with v the norm's standard deviation relative to
       its mean.

    Cost: 1 + the rate, in SGD steps, and a tensor for each parameter.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        K (int): Steps from one choice of the rate to the next. Defaults to
            50.
        reuse (float): Decay of what is reused, in [0, 1]. Defaults to 0.7.
        rate (float): Ratio of the steps that sample at the beginning; 1
            samples in all of the first K. Defaults to 0.5.
        min_rate (float): The lowest ratio. Defaults to 0.4, the lower of the
            published costs.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        The paper's idea, K and reuse are as published; the exact form of
        step 4 is this project's. The sampled steps lie evenly: every second
        one at a rate of 0.5. A step is one of the optimizer's.

    Example:
        >>> optim_wrapper = dict(
        ...     type='VSAM', rho=0.05,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    keeps_first_gradient = True
    saved = ('rate', 'credit', 'age', 'variation', 'norms')

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 K: int = 50,  # noqa: N803, the paper's
                 reuse: float = 0.7, rate: float = 0.5, min_rate: float = 0.4,
                 **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            isinstance(K, int) and K >= 2, f'K={K!r} is no number of steps '
            'with a variation: set K >= 2; the published one is 50.')
        require(
            is_number(reuse) and 0 <= reuse <= 1,
            f'reuse={reuse!r} must be in [0, 1]: the published one is 0.7.')
        require(
            is_number(rate) and is_number(min_rate)
            and 0 < min_rate <= rate <= 1,
            f'min_rate={min_rate!r} and rate={rate!r} must be ratios with '
            '0 < min_rate <= rate <= 1, for example 0.4 and 0.5.')
        self.K, self.reuse, self.min_rate = K, reuse, min_rate
        self.rate = rate
        self.credit = 1.  # the first step samples
        self.age = 0
        self.variation = 0.  # of the K steps before, 0 when unknown
        self.norms: list[float] = []
        self.psf = ParamState('psf')
        self.param_states.append(self.psf)

    def uses_two_passes(self) -> bool:
        """Whether the step samples: the rates of the steps add up to 1."""
        return self.credit >= 1 - 1e-9

    @torch.no_grad()
    def refine(self, step: Step, params: list[nn.Parameter],
               first: list[Tensor] | None) -> None:
        """Steps 2 to 4 of the algorithm (see the class)."""
        if first is not None:
            psf = [(s - g) / step.loss_scale.to(g)
                   for s, g in zip(gradients(params), first)]
            norm = vector_norm(psf, step.group)
            self.psf.keep(params, psf, norm.isfinite())
            self.norms.append(float(norm))
            # After an overflow the PSF of an earlier step ages on.
            self.age = 0 if math.isfinite(self.norms[-1]) else self.age + 1
            self.credit -= 1
        else:
            self.age += 1
            factor = step.loss_scale * self.reuse**self.age
            for g, part in zip(gradients(params), self.psf.of(params)):
                g.add_(part * factor.to(part))
        if (self.num_updates + 1) % self.K == 0:
            self._choose_rate()
        self.credit += self.rate

    def _choose_rate(self) -> None:
        """Step 4 of the algorithm."""
        norms = torch.tensor(
            [norm for norm in self.norms if math.isfinite(norm)],
            dtype=torch.double)
        self.norms = []
        if len(norms) < 2 or not norms.mean() > 0:
            return
        variation = float(norms.std() / norms.mean())
        if self.variation > 0:
            wanted = self.rate * variation / self.variation
            self.rate = min(1., max(self.min_rate, wanted))
        self.variation = variation
