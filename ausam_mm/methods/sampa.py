"""SAMPa: neither of SAM's two gradients waits for the other."""

from typing import Any

import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ..checks import is_number, require
from ..engine import (
    ParamState,
    Step,
    TwoPassOptimWrapper,
    gradients,
    vector_norm,
)


@OPTIM_WRAPPERS.register_module()
class SAMPa(TwoPassOptimWrapper):
    """SAM along the gradient at y, where the last one would have led.

    Xie et al., "SAMPa: Sharpness-aware Minimization Parallelized", NeurIPS
    2024 (arXiv 2410.10683).

    1. y = x - lr * g, with the gradient g at the last y, of the last batch.
    2. g <- the gradient at y, of this batch.
    3. Step from x with (1 - lmbda) * h + lmbda * g.
    4. h <- the gradient at x + eps, of this batch; eps = rho * g / ||g||.

    The paper computes 4 at the same time as 2 of the next batch, on another
    device. Here one comes after the other.

    Cost: 2 SGD steps, one after the other, and two tensors for each
    parameter.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.1, that of the
            authors' script for CIFAR-10.
        lmbda (float): How much g counts in the step, in [0, 1]; 0 leaves it
            to the perturbation. Defaults to 0.2, the published one.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        The very first step is the base optimizer's, as in the authors'
        script: there is no h yet. y is where SGD would go from x with g, so
        with momentum and weight decay, and with g clipped by ``clip_grad``;
        for other optimizers it is x - lr * g, also as there.

        All micro-batches and processes have the same y and eps, by the mean
        of their gradients, so that ``sync_perturbation`` changes nothing.
        The micro-batches of an accumulation stay in memory up to its step.

    Example:
        >>> optim_wrapper = dict(
        ...     type='SAMPa', rho=0.1, lmbda=0.2,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    second_pass_after_step = True

    def __init__(self, optimizer: Optimizer, rho: float = 0.1,
                 lmbda: float = 0.2, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            is_number(lmbda) and 0 <= lmbda <= 1,
            f'lmbda={lmbda!r} must be in [0, 1]: the published one is 0.2.')
        self.lmbda = lmbda
        self.g = ParamState('gradient_at_y')
        self.h = ParamState('gradient_at_x_eps')
        self.param_states += [self.g, self.h]
        self._new_g: list[Tensor] = []

    def uses_two_passes(self) -> bool:
        """Never before the optimizer's step."""
        return False

    @torch.no_grad()
    def perturb_before_pass(self, step: Step) -> None:
        """Step 1 of the algorithm (see the class)."""
        if len(self.g) == 0:
            return
        groups = {p: group for group in self.param_groups
                  for p in group['params'] if p.requires_grad}
        params = list(groups)
        grads = [g.clone() for g in self.g.of(params)]
        self.clip(params, grads)
        self.perturbation.move(params, [
            -groups[p]['lr'] * self._direction(p, g, groups[p])
            for p, g in zip(params, grads)])

    def _direction(self, x: nn.Parameter, g: Tensor,
                   group: dict[str, Any]) -> Tensor:
        """What a step with g takes off a parameter, relative to lr."""
        if not isinstance(self.optimizer, SGD):
            return g
        g = g + group['weight_decay'] * x
        last = self.optimizer.state.get(x, {}).get('momentum_buffer')
        if last is None:
            return g
        momentum = group['momentum']
        velocity: Tensor = momentum * last + (1 - group['dampening']) * g
        return g + momentum * velocity if group['nesterov'] else velocity

    @torch.no_grad()
    def refine(self, step: Step, params: list[nn.Parameter],
               first: list[Tensor] | None) -> None:
        """Steps 2 and 3 of the algorithm (see the class)."""
        scale = step.loss_scale
        self._new_g = [grad / scale.to(grad) for grad in gradients(params)]
        if len(self.h) == 0:
            return
        for grad, h in zip(gradients(params), self.h.of(params)):
            grad.mul_(self.lmbda).add_(
                h * scale.to(h), alpha=1 - self.lmbda)

    def after_update(self, step: Step, params: list[nn.Parameter]) -> None:
        """Step 4 of the algorithm (see the class)."""
        g, self._new_g = self._new_g, []
        finite = vector_norm(g, step.group).isfinite()
        if not finite:  # the step was skipped, and the batch leaves no trace
            return
        self.g.keep(params, g, finite)
        h = step.gradient_at_new_weights(params, g)
        if h is not None:
            # An overflow stays, too: it lets the next step be skipped, by
            # which a loss scale comes down, and is gone after it.
            self.h.keep(params, h, finite)

    def plan(self) -> str:
        """The base class's with lmbda."""
        return f'{super().plan()}, lmbda={self.lmbda:g}'
