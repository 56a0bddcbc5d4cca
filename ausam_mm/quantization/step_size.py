"""Step sizes as parameters, and the guard that keeps them valid."""

import logging
from collections.abc import Sequence
from typing import Any, SupportsIndex
from weakref import WeakSet

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.optim import Optimizer

from ..internals import not_compiled

_guarded: WeakSet[Optimizer] = WeakSet()


class StepSize(nn.Parameter):
    """Step sizes, which a guarded optimizer keeps positive and finite.

    See :func:`guard_step_sizes`.

    Attributes:
        perturbed (bool): Whether SAM perturbs it. It lies on the class, since
            copies of a parameter are made without its attributes.
        asks_for_guard (bool): Whether training it without a guard is worth a
            warning. On the parameter it is False once its optimizer is
            guarded; on the class it is so once the warning was given.
    """

    perturbed = False
    asks_for_guard = True

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return type(self), (self.data, self.requires_grad)

    def keep_valid(self, before: Tensor) -> None:
        """Takes back where the value is no step size.

        Args:
            before (Tensor): The value before the update, of the same shape.
        """
        _keep_valid([self], [before])


class PerturbedStepSize(StepSize):
    """Step sizes that SAM perturbs, too."""

    perturbed = True


def step_size_range(dtype: torch.dtype) -> tuple[float, float]:
    """The smallest and the largest step size.

    Dividing by the smallest loses no precision; 255 times the largest is
    still finite.

    Returns:
        tuple[float, float]: Both.
    """
    info = torch.finfo(dtype)
    return info.tiny, info.max / 256


def is_step_size(values: Tensor) -> Tensor:
    """Which values are possible step sizes.

    Returns:
        Tensor: The same shape, bool.
    """
    low, high = step_size_range(values.dtype)
    return (values >= low) & (values <= high)


def guard_step_sizes(optimizer: Optimizer) -> None:
    """Refuses updates that would make a step size invalid.

    Where a step of the optimizer makes an element zero, negative, infinite or
    NaN, that element keeps its value. Hooks on this optimizer alone do so in
    place, before anything reads the parameters (EMA, checkpoints, the next
    forward pass), and without waiting for the device. A second call adds no
    more of them.

    Args:
        optimizer (Optimizer): One that trains a quantized model, or any
            other, which it leaves as it is.

    Example:
        >>> import torch
        >>> from ausam_mm.quantization import guard_step_sizes, quantize_layer
        >>> layer = torch.nn.Linear(2, 2)
        >>> quantize_layer(layer, w_bits=4, a_bits=4)
        >>> guard_step_sizes(torch.optim.SGD(layer.parameters(), lr=0.01))
    """
    for step in _step_sizes(optimizer):
        step.asks_for_guard = False
    if optimizer in _guarded:
        return
    before: list[Tensor] = []

    def save(optimizer: Optimizer, *_: Any) -> None:
        before[:] = [p.detach().clone() for p in _step_sizes(optimizer)]

    def check(optimizer: Optimizer, *_: Any) -> None:
        _keep_valid(_step_sizes(optimizer), before)
        before.clear()

    optimizer.register_step_pre_hook(not_compiled(save))
    optimizer.register_step_post_hook(not_compiled(check))
    _guarded.add(optimizer)


def _step_sizes(optimizer: Optimizer) -> list[StepSize]:
    return [p for group in optimizer.param_groups for p in group['params']
            if isinstance(p, StepSize)]


@torch.no_grad()
def _keep_valid(steps: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, step in enumerate(steps):
        groups.setdefault((step.device, step.dtype), []).append(i)
    for members in groups.values():  # as one vector: a few kernels in all
        ours = [steps[i] for i in members]
        new = torch.cat([step.detach().flatten() for step in ours])
        old = torch.cat([before[i].flatten() for i in members])
        kept = torch.where(is_step_size(new), new, old)
        parts = kept.split([step.numel() for step in ours])
        torch._foreach_copy_(
            ours, [part.view_as(step) for part, step in zip(parts, ours)])


def warn_of_missing_guard() -> None:
    """Once a process."""
    StepSize.asks_for_guard = False
    print_log(
        'Step sizes are trained without a guard, so that an update may make '
        'them zero, negative or NaN. Add custom_hooks=[dict(type='
        "'StepSizeHook')] to the config, or call "
        'ausam_mm.quantization.guard_step_sizes(optimizer).', 'current',
        logging.WARNING)
