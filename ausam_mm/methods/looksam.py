"""LookSAM: SAM in every k-th step, its direction reused in between."""

from typing import Any

from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import require
from ..engine import Step, TwoPassOptimWrapper
from .orthogonal_part import OrthogonalPart


@OPTIM_WRAPPERS.register_module()
class LookSAM(TwoPassOptimWrapper):
    """SAM in every k-th step; in between its new part is reused.

    Liu et al., "Towards Efficient and Scalable Sharpness-Aware Minimization",
    CVPR 2022 (arXiv 2203.02714).

    1. In every k-th step: SAM, with the gradient g at w and g_s at w + eps;
       g_v = g_s - (g_s g / ||g||) g / ||g|| is kept.
    2. Else: one pass; step with g + alpha * ||g|| / ||g_v|| * g_v.

    Norms are over all parameters. Cost: 1 + 1/k SGD steps, and a tensor for
    each parameter.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        k (int): Steps from one SAM step to the next; 1 is SAM. Defaults to 5.
        alpha (float): Length of the reused part, relative to the gradient.
            Defaults to 0.7.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        A step is one of the optimizer's: with accumulation all its
        micro-batches have two passes, or one. With many processes g is their
        mean, as g_s is.

    Example:
        >>> optim_wrapper = dict(
        ...     type='LookSAM', rho=0.05, k=5,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    keeps_first_gradient = True

    def __init__(self, optimizer: Optimizer, rho: float = 0.05, k: int = 5,
                 alpha: float = 0.7, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            isinstance(k, int) and k >= 1, f'k={k!r} is no number of steps: '
            'set k >= 1; the published one is 5.')
        self.k = k
        self.part = OrthogonalPart(alpha)
        self.param_states.append(self.part.state)

    def uses_two_passes(self) -> bool:
        """Step 1 of the algorithm (see the class), in every k-th step."""
        return self.num_updates % self.k == 0

    def plan(self) -> str:
        """The base class's with k and alpha."""
        return f'{super().plan()}, k={self.k}, alpha={self.part.alpha:g}'

    def refine(self, step: Step, params: list[nn.Parameter],
               first: list[Tensor] | None) -> None:
        """Learns g_v from SAM's gradient, or adds it to the one at w."""
        self.part.refine(step, params, first)
