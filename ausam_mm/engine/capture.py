"""The one place that hooks the model: the batch, the call, the output."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..internals import not_compiled, remove_hook, remove_pre_hook
from ..undo import Undo
from .isolation import has_batch_statistics

Call = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def capture(model: nn.Module, inner: nn.Module,
            on_batch: Callable[[Any], Any],
            on_call: Callable[[Call], Call],
            on_output: Callable[[Any], None], undo: Undo) -> Iterator[None]:
    """Shows the batch, the call and the output of a forward pass.

    Hooks are on the model inside the context only, so that copies of it (EMA)
    and its checkpoints know nothing of them.

    Args:
        model (nn.Module): The outermost model.
        inner (nn.Module): The model without its distributed wrapper. Its
            ``data_preprocessor``, if any, is the one that is watched.
        on_batch (Callable): Called with what the data loader returned, before
            it goes to the device and before Mixup; returns what the data
            preprocessor gets.
        on_call (Callable): Called with the pair of positional and keyword
            arguments of the model's forward pass; returns what it gets.
        on_output (Callable): Called with what the model returns.
        undo (Undo): Keeps what removes the hooks.
    """

    @not_compiled
    def before_preprocessing(module: nn.Module, args: tuple[Any, ...],
                             kwargs: dict[str, Any]) -> Call:
        if args:
            return (on_batch(args[0]), *args[1:]), kwargs
        return args, {**kwargs, 'data': on_batch(kwargs['data'])}

    @not_compiled
    def before_forward(module: nn.Module, args: tuple[Any, ...],
                       kwargs: dict[str, Any]) -> Call:
        return on_call((args, kwargs))

    @not_compiled
    def after_forward(module: nn.Module, args: tuple[Any, ...],
                      output: Any) -> None:
        on_output(output)

    preprocessor = getattr(inner, 'data_preprocessor', None)
    with undo.scope():
        for watched, hook in ((preprocessor, before_preprocessing),
                              (model, before_forward)):
            if watched is not None:
                undo.keep(remove_pre_hook, watched, hook)
                watched.register_forward_pre_hook(hook, with_kwargs=True)
        undo.keep(remove_hook, model, after_forward)
        model.register_forward_hook(after_forward)
        yield


@contextmanager
def find_lone_values(model: nn.Module, found: set[str],
                     undo: Undo) -> Iterator[None]:
    """Looks for BatchNorm that gets one value of each sample in a channel.

    That is BatchNorm1d without a map, and any after global pooling. It cannot
    normalize a single sample.

    Args:
        model (nn.Module): The model.
        found (set[str]): Gets the classes of those that train.
        undo (Undo): Keeps what removes the hooks.
    """

    # Not @not_compiled: a compiled graph keeps the hook, and would break here.
    def before_forward(module: nn.Module, args: tuple[Any, ...]) -> None:
        if module.training and args and \
                args[0].numel() == args[0].size(0) * args[0].size(1):
            found.add(type(module).__name__)

    with undo.scope():
        for module in model.modules():
            if has_batch_statistics(module):
                undo.keep(remove_pre_hook, module, before_forward)
                module.register_forward_pre_hook(before_forward)
        yield
