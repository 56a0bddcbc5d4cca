"""Private parts of torch and MMEngine, each in one function.

``tests/test_internals.py`` fails when one of them is gone.
"""

import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.data import DataLoader

F = TypeVar('F', bound=Callable[..., Any])


def set_max_iters(loop: Any, max_iters: int) -> None:
    """Corrects the length of MMEngine's loop (MMEngine 0.10.7, 0.10.12).

    Its property has no setter.
    """
    loop._max_iters = max_iters


def autocast_dtype(device: str) -> torch.dtype | None:
    """What autocast casts to on a kind of device; None where it is off.

    Before PyTorch 2.4 these functions did not take the kind of device.
    """
    if hasattr(torch, 'get_autocast_dtype'):
        on = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device)
    elif device == 'cpu':
        on = torch.is_autocast_cpu_enabled()
        dtype = torch.get_autocast_cpu_dtype()
    else:
        on = torch.is_autocast_enabled()
        dtype = torch.get_autocast_gpu_dtype()
    return dtype if on else None


def not_compiled(function: F) -> F:
    """A function that torch.compile runs as it stands (torch 2.14).

    ``torch.compiler.disable`` does the same, but imports the compiler, which
    takes seconds, when it decorates.
    """
    return cast(F, _disable_dynamo(function))


def set_inner_count(base: OptimWrapper, count: int) -> None:
    """Sets the count of backward passes (MMEngine 0.10.7, 0.10.12).

    ``inner_count`` has no setter.
    """
    base._inner_count = count


def clips_by_norm(base: OptimWrapper) -> bool:
    """Whether a step begins with ``clip_func``, which returns the norm.

    So it is in MMEngine 0.10.7 and 0.10.12, unless a subclass does otherwise.
    """
    kind = type(base)
    return bool(base.clip_grad_kwargs) and \
        base.clip_func is nn.utils.clip_grad_norm_ and \
        kind.step in (OptimWrapper.step, AmpOptimWrapper.step) and \
        kind._clip_grad is OptimWrapper._clip_grad


def accumulation(base: OptimWrapper) -> int:
    """Micro-batches of an optimizer step (MMEngine 0.10.7, 0.10.12)."""
    return int(base._accumulative_counts)


def total_micro_batches(base: OptimWrapper) -> int:
    """Those of the training, -1 if unknown (MMEngine 0.10.7, 0.10.12)."""
    return int(base._max_counts)


def forget_scalar(hub: MessageHub, key: str) -> None:
    """Removes a logged scalar, for checkpoints too (MMEngine 0.10.7, 0.10.12).

    With its history alone gone, each resume would warn that it is not there.
    """
    hub._log_scalars.pop(key, None)
    hub._resumed_keys.pop(key, None)


def remove_pre_hook(module: nn.Module, hook: Callable[..., Any]) -> None:
    """Removes a forward pre-hook, if it is there (torch 2.14).

    Its handle does the same, but an interrupt can come before one has it.
    """
    for key, other in list(module._forward_pre_hooks.items()):
        if other is hook:
            module._forward_pre_hooks.pop(key, None)
            module._forward_pre_hooks_with_kwargs.pop(key, None)


def remove_hook(module: nn.Module, hook: Callable[..., Any]) -> None:
    """Removes a forward hook, if it is there (torch 2.14)."""
    for key, other in list(module._forward_hooks.items()):
        if other is hook:
            module._forward_hooks.pop(key, None)
            module._forward_hooks_with_kwargs.pop(key, None)


def remove_gradient_hook(p: Tensor, hook: Callable[..., Any]) -> None:
    """Removes a post-accumulate-grad hook, if it is there (torch 2.14)."""
    hooks = p._post_accumulate_grad_hooks or {}
    for key, other in list(hooks.items()):
        if other is hook:
            hooks.pop(key, None)


def owns_memory(p: Tensor) -> bool:
    """Whether no other tensor sees all or a part of a plain tensor's memory.

    False, too, where PyTorch does not tell (torch 2.14).
    """
    if type(p.data) is not Tensor:
        return False
    memory = p.untyped_storage()
    count = getattr(torch._C, '_storage_Use_Count', None)
    # Its own use, and that of the line above.
    return count is not None and memory.nbytes() == p.nbytes and \
        count(memory._cdata) == 2


def is_batchnorm(module: nn.Module) -> bool:
    """Whether a module is one of torch's, SyncBatchNorm too (torch 2.14)."""
    return isinstance(module, _BatchNorm)


def is_attention_projection(module: Any) -> bool:
    """Whether nn.MultiheadAttention never calls a layer (torch 2.14)."""
    return type(module) is nn.modules.linear.NonDynamicallyQuantizableLinear


def where_inside(values: Tensor, x: Tensor, low: float,
                 high: float) -> Tensor:
    """The values where low < x < high, and 0 elsewhere (torch 2.14).

    One pass over memory. ``torch.where`` and a product with a mask take ten
    times as long on a CPU.

    Args:
        values (Tensor): Any shape.
        x (Tensor): The same shape and dtype.
        low (float): The lower bound, outside itself.
        high (float): The upper bound, outside itself.
    """
    inside: Tensor = torch.ops.aten.hardtanh_backward.default(
        values, x, low, high)
    return inside


def output_padding(layer: Any, inputs: Tensor,
                   output_size: list[int] | None) -> list[int]:
    """What a transposed convolution adds to one side (torch 2.14)."""
    padding: list[int] = layer._output_padding(
        inputs, output_size, layer.stride, layer.padding, layer.kernel_size,
        2, layer.dilation)
    return padding


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves of nested containers (torch 2.14).

    Args:
        tree (Any): Tuples, lists and dicts in each other.

    Returns:
        tuple: The leaves, and what puts others in their places.
    """
    leaves, spec = tree_flatten(tree)
    return leaves, lambda others: tree_unflatten(others, spec)


def version(tensor: Tensor) -> int:
    """How often a tensor was changed in place (torch 2.14).

    Changes through ``tensor.data`` do not count.
    """
    return 0 if tensor.is_inference() else tensor._version


def has_copies(dataset: Any) -> bool:
    """Whether a dataset repeats the samples of the one in it.

    That are RepeatDataset and ClassBalancedDataset (MMEngine 0.10.7, 0.10.12).
    """
    return hasattr(dataset, '_get_ori_dataset_idx')


def original_index(dataset: Any, index: int) -> int:
    """The index in the dataset inside (MMEngine 0.10.7, 0.10.12)."""
    return int(dataset._get_ori_dataset_idx(index))


def records_usage(ddp: DistributedDataParallel) -> bool:
    """Whether DDP still records parameter usage in this pass (torch 2.14).

    On a static graph it does so in the very first pass, which has to be a
    synchronized one.
    """
    return ddp.static_graph and not ddp._static_graph_delay_allreduce_enqueued


def weights_only_refusal(error: Exception) -> str | None:
    """Why weights_only=True does not load a file (torch 2.14).

    Args:
        error (Exception): An exception of ``torch.load``.

    Returns:
        str | None: A few words, with the name of the global that was refused;
        None where the error is another one.
    """
    text = str(error)
    if isinstance(error, pickle.UnpicklingError):
        name = re.search(r'GLOBAL (\S+)', text)
        if name:
            return f'it asks for {name[1]}'
        # The reason follows advice, and a link to the documentation follows.
        reason = text.split('WeightsUnpickler error:')[-1].strip()
        return reason.splitlines()[0].rstrip('.') if reason else text
    if 'weights_only=True' in text:  # TorchScript, a tar of before 1.6
        return text.split('. ')[0]
    return None


def asking_loader() -> DataLoader[Any] | None:
    """The data loader below whose ``__iter__`` this is called (torch 2.14).

    There it asks a batch sampler for an iterator, to which it does not say
    its options.

    Returns:
        DataLoader, optional: The innermost; None if there is none.
    """
    frame = inspect.currentframe()
    while frame is not None:
        loader = frame.f_locals.get('self')
        if isinstance(loader, DataLoader):
            return loader
        frame = frame.f_back
    return None
