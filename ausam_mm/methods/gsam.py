"""GSAM: SAM that also minimizes the gap between the two losses."""

from typing import Any

from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import is_number, require
from ..engine import Step, TwoPassOptimWrapper, gradients
from .orthogonal_part import orthogonal_to


@OPTIM_WRAPPERS.register_module()
class GSAM(TwoPassOptimWrapper):
    """Surrogate gap guided SAM: SAM that also shrinks the rise of the loss.

    Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware
    Training", ICLR 2022 (arXiv 2203.08065).

    1. SAM, with the gradient g at w and g_s at w + eps.
    2. g_v = g - (g g_s / ||g_s||) g_s / ||g_s||, the part of g orthogonal to
       g_s.
    3. Step with g_s - alpha * g_v. Along g_v it is an ascent of the loss at w
       which, to first order, leaves that at w + eps: their gap shrinks.

    Norms are over all parameters. Cost: 2 SGD steps, and a second gradient in
    memory during a step.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. The paper lets it follow the
            learning rate, which a scheduler of ``param_name='rho'`` does.
            Defaults to 0.05.
        alpha (float): How much of g_v is taken off g_s; 0 is SAM, and 0.2 is
            that of the authors' CIFAR-10 example. Defaults to 0.2.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        With accumulation and many processes g and g_s are those of the
        optimizer's step, means over all of them.

    Example:
        >>> optim_wrapper = dict(
        ...     type='GSAM', rho=0.05, alpha=0.2,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    keeps_first_gradient = True

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 alpha: float = 0.2, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            is_number(alpha) and alpha >= 0, f'alpha={alpha!r} must not be '
            'negative: set 0.2, or 0 for SAM.')
        self.alpha = alpha

    def plan(self) -> str:
        """The base class's with alpha."""
        return f'{super().plan()}, alpha={self.alpha:g}'

    def refine(self, step: Step, params: list[nn.Parameter],
               first: list[Tensor] | None) -> None:
        """Steps 2 and 3 of the algorithm (see the class)."""
        if first is None:  # the step had one pass
            return
        grads = gradients(params)
        for grad, part in zip(grads, orthogonal_to(grads, first, step.group)):
            grad.sub_(self.alpha * part)
