"""F-SAM: a perturbation without the direction that all batches share."""

from typing import Any

import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ..checks import is_number, require
from ..engine import (
    ParamState,
    Step,
    TwoPassOptimWrapper,
    vector_norm,
)
from ..engine.distributed import average, is_fsdp


@OPTIM_WRAPPERS.register_module()
class FSAM(TwoPassOptimWrapper):
    """Friendly SAM: perturbs along the part of g that is the batch's own.

    Li et al., "Friendly Sharpness-Aware Minimization", CVPR 2024
    (arXiv 2403.12350).

    1. g at w; m = lmbda * m + (1 - lmbda) * g, which stands for the gradient
       of the whole data.
    2. d = g - sigma * m; eps = rho * d / ||d||
    3. Second pass; step with its gradient at w.

    Cost: 2 SGD steps, and a tensor for each parameter.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.2.
        sigma (float): How much of m is taken out; 0 is SAM. Defaults to 1.
        lmbda (float): Decay of m, which begins at 0. Defaults to 0.6.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        With many processes m is that of their mean gradient, and so alike in
        all of them: one reduction of a gradient more in each step. With
        accumulation m is the average over micro-batches.

    Example:
        >>> optim_wrapper = dict(
        ...     type='FSAM', rho=0.2,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.2,
                 sigma: float = 1., lmbda: float = 0.6,
                 **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            is_number(sigma), f'sigma={sigma!r} is no number: the published '
            'one is 1.')
        require(
            is_number(lmbda) and 0 <= lmbda < 1, f'lmbda={lmbda!r} must be in '
            '[0, 1): the published one is 0.6.')
        self.sigma, self.lmbda = sigma, lmbda
        self.average = ParamState('gradient_average')
        self.param_states.append(self.average)

    @torch.no_grad()
    def set_ascent_direction(self, step: Step) -> None:
        """Steps 1 and 2 of the algorithm (see the class)."""
        scale = step.loss_scale
        # Another process may have used what this one has not.
        params = [p for p in step.params if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None
                 else p.grad / scale.to(p.grad) for p in params]
        if not is_fsdp(step.model):
            average(grads)
        valid = vector_norm(grads, step.group).isfinite()
        self.average.keep(
            params, [torch.lerp(g, m, self.lmbda)
                     for g, m in zip(grads, self.average.of(params))], valid)
        for p, m in zip(params, self.average.of(params)):
            if p.grad is not None:
                p.grad.sub_(self.sigma * scale.to(m) * m)
