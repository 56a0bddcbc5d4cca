"""Which processes hold what of a model, and what they do together."""

from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import (
    all_reduce_params,
    broadcast_object_list,
    get_comm_device,
    get_world_size,
)
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

# Where FSDP's checkpoints hold what belongs to no parameter.
_GROUP_STATE = 'ausam_mm'


def is_fsdp(model: nn.Module) -> bool:
    """Whether FSDP holds the parameters of a model."""
    return isinstance(model, FullyShardedDataParallel)


def sharding_group(model: nn.Module) -> dist.ProcessGroup | None:
    """The processes that hold the parts of each parameter.

    Returns:
        ProcessGroup, optional: The group; None if every process holds all.
    """
    if isinstance(model, FullyShardedDataParallel) and \
            model.sharding_strategy != ShardingStrategy.NO_SHARD:
        return model.process_group
    return None


def sum_over(value: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum of a value over the processes of a group.

    Args:
        value (Tensor): The value of this process, shape (). A process that
            holds no part of a vector does not know its precision or device:
            all use double precision and the group's device.
        group (ProcessGroup, optional): The group; None for this process.

    Returns:
        Tensor: The sum, shape ().
    """
    if group is None:
        return value
    total = value.to(get_comm_device(group), torch.float64)
    dist.all_reduce(total, group=group)
    return total


def average(tensors: list[Tensor]) -> None:
    """Averages tensors over all processes, in place."""
    if get_world_size() > 1:
        all_reduce_params(tensors, op='mean')


def average_gradients(params: list[nn.Parameter]) -> None:
    """Averages the gradients of parameters over all processes.

    Args:
        params (list[nn.Parameter]): The parameters, the same in all.
    """
    if get_world_size() == 1:
        return
    gradients = []
    for p in params:
        if p.requires_grad:
            if p.grad is None:  # it may have one in another process
                p.grad = torch.zeros_like(p)
            gradients.append(p.grad)
    average(gradients)


def to_group_state(state: dict[str, Any]) -> dict[str, Any]:
    """Puts what belongs to no parameter into the first param group.

    FSDP keeps only the param-group part of non-parameter state.

    Returns:
        dict: ``state`` and ``param_groups``.
    """
    groups = [dict(group) for group in state['param_groups']]
    groups[0][_GROUP_STATE] = {
        key: value for key, value in state.items()
        if key not in ('state', 'param_groups')}
    return dict(state=state['state'], param_groups=groups)


def from_group_state(state: dict[str, Any]) -> dict[str, Any]:
    """Undoes :func:`to_group_state`, where it was done.

    Args:
        state (dict): What a checkpoint holds of an OptimWrapper.
    """
    groups = [dict(group) for group in state['param_groups']]
    state = dict(state, param_groups=groups)
    if _GROUP_STATE in groups[0]:
        # FSDP may read the file in the first process only, and gives the
        # others the shapes of its tensors.
        received = [groups[0].pop(_GROUP_STATE)]
        broadcast_object_list(received)
        state.update(received[0])
    return state
