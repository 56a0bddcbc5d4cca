"""What keeps the two passes of a step from disturbing each other."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..internals import is_batchnorm, records_usage, remove_gradient_hook
from ..undo import Undo


@dataclass(frozen=True)
class RandomStates:
    """States of random generators.

    Attributes:
        python (tuple): Of ``random``.
        numpy (dict): Of NumPy's global generator.
        devices (dict[torch.device, Tensor]): Of torch, by device.
    """
    python: tuple[Any, ...]
    numpy: dict[str, Any]
    devices: dict[torch.device, Tensor]

    def same_as(self, other: 'RandomStates') -> bool:
        """Whether nothing was drawn between two states."""
        numpy, others = self.numpy['state'], other.numpy['state']
        return self.python == other.python and \
            numpy['pos'] == others['pos'] and \
            bool((numpy['key'] == others['key']).all()) and \
            self.numpy['has_gauss'] == other.numpy['has_gauss'] and \
            all(torch.equal(state, other.devices[device])
                for device, state in self.devices.items())


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm, of torch or of the same kind."""
    return is_batchnorm(module) or (
        getattr(module, 'running_mean', None) is not None and not isinstance(
            module, (nn.InstanceNorm1d, nn.InstanceNorm2d,
                     nn.InstanceNorm3d)))


@contextmanager
def frozen_statistics(model: nn.Module, undo: Undo) -> Iterator[None]:
    """BatchNorm normalizes, but its statistics do not move.

    Neither the running means and variances nor ``num_batches_tracked`` do.

    Args:
        model (nn.Module): The model.
        undo (Undo): Keeps what lets them move again.
    """
    with undo.scope():
        for module in model.modules():
            name: str
            value: bool | float
            if is_batchnorm(module):
                name, value = 'track_running_stats', False
            elif getattr(module, 'running_mean', None) is not None and \
                    hasattr(module, 'momentum'):
                # InstanceNorm, and the SyncBatchNorm of compiled mmcv.
                name, value = 'momentum', 0.
            else:
                continue
            before = getattr(module, name)
            if module.training and before is not value:
                undo.keep(setattr, module, name, before)
                setattr(module, name, value)
        yield


@contextmanager
def eval_mode(model: nn.Module, undo: Undo, everything: bool,
              but: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Normalization and dropout do what they do in evaluation.

    Args:
        model (nn.Module): The model.
        undo (Undo): Keeps what brings their mode back.
        everything (bool): Whether all modules are in eval mode. Else only
            layers without parts are, so that the structure of a model that
            has other outputs in training stays.
        but (Iterable[nn.Module]): Modules that stay as they are, with all
            their parts. Defaults to none.
    """
    kept = {part for module in but for part in module.modules()}
    with undo.scope():
        for module in model.modules():
            # timm's BatchNormAct2d has an activation as a part.
            is_layer = not any(True for _ in module.children()) or \
                isinstance(module, nn.MultiheadAttention) or \
                is_batchnorm(module)
            if module.training and module not in kept and (
                    everything or is_layer):
                undo.replace(module, 'training', False)
                if is_batchnorm(module) and module.running_mean is None:
                    # Without statistics it would normalize by the batch.
                    undo.replace(module, 'forward', _identity)
        yield


def _identity(inputs: Tensor) -> Tensor:
    return inputs


class StatisticsCopy:
    """BatchNorm's statistics as they were, for steps that are skipped.

    Args:
        model (nn.Module): The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._statistics = [
            buffer for module in model.modules()
            if getattr(module, 'running_mean', None) is not None
            for buffer in module.buffers(recurse=False)]
        self._copies = [torch.empty_like(each) for each in self._statistics]

    def save(self) -> None:
        """Keeps what they are now."""
        if self._copies:
            torch._foreach_copy_(self._copies, self._statistics)

    def restore(self) -> None:
        """Makes them what they were."""
        if self._copies:
            torch._foreach_copy_(self._statistics, self._copies)


@contextmanager
def unsynchronized(model: nn.Module, undo: Undo) -> Iterator[None]:
    """Forward passes inside lead to backward passes without communication.

    Each process gets the gradient of its own part of the batch:
    DistributedDataParallel hands its calls on to the module inside. (Its
    no_sync would look for unused parameters for nothing.) Models that hold
    several of them are covered. FSDP is left alone: only communication
    shards its gradients.

    Note:
        On a static graph the very first pass is synchronized, since DDP
        records parameter usage in that pass.
    """
    with undo.scope():
        for module in model.modules():
            # MMSeparateDistributedDataParallel only holds others.
            if not isinstance(module, DistributedDataParallel) \
                    or not hasattr(module, 'reducer') \
                    or records_usage(module):
                continue
            undo.replace(module, 'forward', module.module)
        yield


@contextmanager
def unrecorded(model: nn.Module, params: list[nn.Parameter],
               undo: Undo) -> Iterator[None]:
    """DistributedDataParallel does not see the gradients of a pass inside.

    With ``find_unused_parameters`` it records which parameters get a gradient
    in any backward pass, and fails where one of them gets none in the pass
    that it reduces. Inside, each gradient is taken away before DDP looks
    (torch 2.1 and later).

    Args:
        model (nn.Module): The outermost model.
        params (list[nn.Parameter]): Its parameters, without gradients.
        undo (Undo): Keeps what removes the hooks.
    """
    if not hasattr(Tensor, 'register_post_accumulate_grad_hook') or not any(
            isinstance(module, DistributedDataParallel)
            and module.find_unused_parameters for module in model.modules()):
        yield
        return
    seen: dict[nn.Parameter, Tensor] = {}

    def take_away(p: nn.Parameter) -> None:
        # Activations computed again by reentrant checkpointing come in parts.
        if p.grad is not None:
            seen[p] = p.grad if p not in seen else seen[p] + p.grad
            p.grad = None

    with undo.scope():
        for p in params:
            if p.requires_grad:
                undo.keep(remove_gradient_hook, p, take_away)
                p.register_post_accumulate_grad_hook(take_away)
        yield
    for p, grad in seen.items():
        p.grad = grad


def get_random_states(model: nn.Module) -> RandomStates:
    """States of all generators that a forward pass may draw from.

    Args:
        model (nn.Module): The model, whose device's generator counts.

    Returns:
        RandomStates: Those of Python, NumPy, and torch on the CPU and on the
        model's device.
    """
    states = {torch.device('cpu'): torch.get_rng_state()}
    device = next(model.parameters()).device
    if device.type != 'cpu':
        states[device] = getattr(torch, device.type).get_rng_state(device)
    return RandomStates(
        random.getstate(), np.random.get_state(legacy=False), states)


def set_random_states(states: RandomStates) -> None:
    """Sets what :func:`get_random_states` returned."""
    random.setstate(states.python)
    np.random.set_state(states.numpy)
    for device, state in states.devices.items():
        if device.type == 'cpu':
            torch.set_rng_state(state)
        else:
            getattr(torch, device.type).set_rng_state(state, device)
