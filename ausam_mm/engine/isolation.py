"""What keeps the two passes of a step from disturbing each other."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..internals import is_batchnorm, records_usage

RandomStates = dict[torch.device, Tensor]


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm normalizes, but its statistics do not move.

    Neither the running means and variances nor ``num_batches_tracked`` do.

    Args:
        model (nn.Module): The model.
    """
    changed = []
    for module in model.modules():
        name: str
        value: bool | float
        if is_batchnorm(module):
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
def unsynchronized(model: nn.Module) -> Iterator[None]:
    """Forward passes inside lead to backward passes without communication.

    Each process gets the gradient of its own part of the batch:
    DistributedDataParallel hands its calls on to the module inside. (Its
    no_sync would look for unused parameters for nothing.) Models that hold
    several of them are covered. FSDP is left alone: only communication
    shards its gradients.

    Note:
        On a static graph the very first pass is synchronized, since DDP
        records parameter usage in that pass.

    Args:
        model (nn.Module): The outermost model.
    """
    with ExitStack() as stack:
        for module in model.modules():
            # MMSeparateDistributedDataParallel only holds others.
            if not isinstance(module, DistributedDataParallel) \
                    or not hasattr(module, 'reducer') \
                    or records_usage(module):
                continue
            attributes = vars(module)
            if 'forward' in attributes:  # a compiled one
                stack.callback(attributes.__setitem__, 'forward',
                               attributes['forward'])
            else:
                stack.callback(attributes.pop, 'forward')
            attributes['forward'] = module.module
        yield


def get_random_states(model: nn.Module) -> RandomStates:
    """States of the CPU's and the model's device's random generators.

    Args:
        model (nn.Module): The model.

    Returns:
        dict[torch.device, Tensor]: The states by their device.
    """
    states = {torch.device('cpu'): torch.get_rng_state()}
    device = next(model.parameters()).device
    if device.type != 'cpu':
        states[device] = getattr(torch, device.type).get_rng_state(device)
    return states


def set_random_states(states: RandomStates) -> None:
    """Sets what :func:`get_random_states` returned.

    Args:
        states (dict[torch.device, Tensor]): The states by their device.
    """
    for device, state in states.items():
        if device.type == 'cpu':
            torch.set_rng_state(state)
        else:
            getattr(torch, device.type).set_rng_state(state, device)
