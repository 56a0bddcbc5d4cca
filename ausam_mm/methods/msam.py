"""MSAM: the perturbation follows the momentum, at the cost of one pass."""

from typing import Any

import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ..checks import require
from ..engine import Step, TwoPassOptimWrapper

_MOMENTUM = ('momentum_buffer', 'exp_avg')  # SGD's and Adam's


@OPTIM_WRAPPERS.register_module()
class MSAM(TwoPassOptimWrapper):
    """Momentum-SAM: one pass, at weights moved along the momentum.

    Becker et al., "Momentum-SAM: Sharpness Aware Minimization without
    Computational Overhead", 2024 (arXiv 2401.12033).

    1. eps = -rho * v / ||v||, v the momentum of the last steps, in which the
       weights move by -lr * v.
    2. One pass at w + eps; step with its gradient at w.

    Cost: 1 SGD step.

    Args:
        optimizer (Optimizer): The optimizer that steps, with momentum: SGD
            with it, Adam, AdamW.
        rho (float): Radius of the perturbation. It is larger than SAM's: one
            step of momentum is not the steepest way. Defaults to 3.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        In the very first step there is no momentum yet: it is SGD's.

    Example:
        >>> optim_wrapper = dict(
        ...     type='MSAM', rho=3.,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    def __init__(self, optimizer: Optimizer, rho: float = 3.,
                 **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            all(group.get('momentum') or group.get('betas')
                for group in self.param_groups),
            f'MSAM follows the momentum, which {type(optimizer).__name__} '
            'does not have: set momentum=0.9, or an optimizer like AdamW.')

    def uses_two_passes(self) -> bool:
        """Never."""
        return False

    @torch.no_grad()
    def perturb_before_pass(self, step: Step) -> None:
        """Step 1 of the algorithm (see the class)."""
        states = [self.optimizer.state.get(p, {}) for p in step.params]
        momenta = [next((state[name] for name in _MOMENTUM
                         if state.get(name) is not None), None)
                   for state in states]
        step.scalars['momentum_norm'] = step.perturb_along(
            [None if momentum is None else -momentum for momentum in momenta])
