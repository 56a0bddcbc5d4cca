"""The loss of each sample as a module's loss on that sample alone."""

from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..internals import flatten, version

# Classes whose forward torch.func.vmap could not map.
_NOT_MAPPABLE: set[type] = set()


class ModuleState:
    """What a small module remembers in Python attributes, to be put back.

    Args:
        module (nn.Module): A loss module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._attributes = [(vars(part), dict(vars(part)))
                            for part in module.modules()]
        self._buffers = self._buffers_now()

    def _buffers_now(self) -> dict[str, tuple[Tensor, int]]:
        return {name: (buffer, version(buffer)) for name, buffer
                in self._module.named_buffers(remove_duplicate=False)}

    def moved_buffer(self) -> str | None:
        """Name of a buffer that has changed since, if any."""
        before, now = self._buffers, self._buffers_now()
        return next((name for name in sorted({*before, *now})
                     if name not in now or name not in before
                     or before[name][0] is not now[name][0]
                     or before[name][1] != now[name][1]), None)

    def restore(self) -> None:
        """Gives the attributes back their values."""
        for attributes, saved in self._attributes:
            for name in attributes.keys() - saved.keys():
                del attributes[name]
            attributes.update(saved)


def batched_arguments(args: tuple[Any, ...], kwargs: dict[str, Any],
                      num_samples: int) -> list[bool]:
    """Which arguments, flattened, may hold a slice for each sample.

    Args:
        args (tuple): What a loss module was called with.
        kwargs (dict): What it was called with by name.
        num_samples (int): The number of samples N.

    Returns:
        list[bool]: Whether it is a tensor with N rows, for each leaf.
    """
    return [isinstance(leaf, Tensor) and leaf.ndim > 0
            and leaf.size(0) == num_samples
            for leaf in flatten((args, kwargs))[0]]


def one_by_one(module: nn.Module, args: tuple[Any, ...],
               kwargs: dict[str, Any], num_samples: int,
               batched: list[bool] | None = None) -> Tensor:
    """The loss of each sample as the module's loss on it alone.

    By torch.func.vmap where the module's code allows it, which costs about as
    much as the batch loss, else in a loop. The module's Python attributes are
    afterwards what they were.

    Args:
        module (nn.Module): A loss module.
        args (tuple): What it was called with.
        kwargs (dict): What it was called with by name.
        num_samples (int): The number of samples N.
        batched (list[bool], optional): Which arguments, flattened, hold a
            slice for each sample. Defaults to None, for all tensors with N
            rows.

    Returns:
        Tensor: The losses, shape (N, ).

    Raises:
        ValueError: If no argument holds the samples.
    """
    if kwargs.get('avg_factor') is not None:
        # Heads pass the number of samples, by which a sum is divided.
        if kwargs['avg_factor'] != num_samples:
            raise ValueError(f'its avg_factor is {kwargs["avg_factor"]} for '
                             f'{num_samples} samples')
        kwargs = dict(kwargs, avg_factor=1)
    if batched is None:
        batched = batched_arguments(args, kwargs, num_samples)
    flat, rebuild = flatten((args, kwargs))
    if not any(batched):
        raise ValueError(f'none of its arguments holds {num_samples} samples')
    slices = [value for value, is_ in zip(flat, batched) if is_]
    state = ModuleState(module)

    def alone(*sample: Tensor) -> Tensor:
        parts = iter(sample)
        call = [
            next(parts).unsqueeze(0) if is_ else value
            for value, is_ in zip(flat, batched)
        ]
        args_, kwargs_ = rebuild(call)
        loss: Tensor = module.forward(*args_, **kwargs_).mean()
        state.restore()
        return loss

    if type(module) not in _NOT_MAPPABLE:
        try:
            losses: Tensor = torch.func.vmap(alone)(*slices)
            return losses
        except (RuntimeError, ValueError, IndexError) as error:
            # Boolean masks and Python conditions on tensors cannot be mapped.
            state.restore()
            print_log(
                f'{type(module).__name__} is evaluated sample by sample, '
                f'since torch.func.vmap cannot map it ({type(error).__name__})'
                '; a rule would be faster.',
                logger='current')
            _NOT_MAPPABLE.add(type(module))
    return torch.stack([alone(*sample) for sample in zip(*slices)])
