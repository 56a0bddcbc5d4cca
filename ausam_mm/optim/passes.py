"""What keeps the two passes of a step from disturbing each other."""

from contextlib import ExitStack, contextmanager
from typing import Any, Iterator

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation normalises but leaves its statistics alone.

    Neither the running means and variances nor ``num_batches_tracked`` move.

    Args:
        model (nn.Module): The model.
    """
    changed = []
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            name, value = 'track_running_stats', False
        elif getattr(module, 'running_mean', None) is not None and hasattr(
                module, 'momentum'):
            # InstanceNorm, and the SyncBatchNorm of compiled mmcv.
            name, value = 'momentum', 0.
        else:
            continue
        if module.training and getattr(module, name) is not value:
            changed.append((module, name, getattr(module, name)))
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


@contextmanager
def unsynchronised(model: nn.Module) -> Iterator[None]:
    """Forward passes inside lead to backward passes without communication.

    Each process so gets the gradient of its own part of the batch:
    DistributedDataParallel hands its calls on to the module inside. (Its
    no_sync would look for unused parameters for nothing.) Models that hold
    several of them are covered, and FSDP, whose gradients only communication
    shards, is left alone.

    Note:
        On a static graph the very first pass is synchronised, since DDP takes
        down there how often each gradient comes in a pass of its own.

    Args:
        model (nn.Module): The outermost model.
    """
    with ExitStack() as stack:
        for module in model.modules():
            # MMSeparateDistributedDataParallel only holds others.
            if not isinstance(module, DistributedDataParallel) \
                    or not hasattr(module, 'reducer'):
                continue
            if module.static_graph and \
                    not module._static_graph_delay_allreduce_enqueued:
                continue
            attributes = vars(module)
            before = attributes.get('forward')
            attributes['forward'] = module.module
            stack.callback(_put_back, attributes, before)
        yield


def _put_back(attributes: dict, forward: Any) -> None:
    if forward is None:
        del attributes['forward']
    else:  # a compiled one
        attributes['forward'] = forward


def is_fsdp(model: nn.Module) -> bool:
    """Whether the parameters of a model are sharded over processes."""
    return isinstance(model, FullyShardedDataParallel)


def sharding_group(model: nn.Module) -> Any:
    """The processes that hold the parts of each parameter.

    Args:
        model (nn.Module): The outermost model.

    Returns:
        ProcessGroup, optional: The group; None if every process holds all.
    """
    if is_fsdp(model) and \
            model.sharding_strategy != ShardingStrategy.NO_SHARD:
        return model.process_group
    return None


def get_rng(model: nn.Module) -> dict:
    """States of the CPU's and the model's device's random generators.

    Args:
        model (nn.Module): The model.

    Returns:
        dict: The states by their device.
    """
    state = dict(cpu=torch.get_rng_state())
    device = next(model.parameters()).device
    if device.type != 'cpu':
        state[device] = getattr(torch, device.type).get_rng_state(device)
    return state


def set_rng(state: dict) -> None:
    """Sets what :func:`get_rng` returned.

    Args:
        state (dict): The states by their device.
    """
    for device, value in state.items():
        if device == 'cpu':
            torch.set_rng_state(value)
        else:
            getattr(torch, device.type).set_rng_state(value, device)
