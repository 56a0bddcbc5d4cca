"""The one place that hooks the model: the batch, and the call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..internals import not_compiled, remove_pre_hook
from ..undo import Undo

Call = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def capture(model: nn.Module, inner: nn.Module,
            on_batch: Callable[[Any], Any],
            on_call: Callable[[Call], Call], undo: Undo) -> Iterator[None]:
    """Shows the batch and the call of a forward pass, which may change them.

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

    preprocessor = getattr(inner, 'data_preprocessor', None)
    with undo.scope():
        for watched, hook in ((preprocessor, before_preprocessing),
                              (model, before_forward)):
            if watched is not None:
                undo.keep(remove_pre_hook, watched, hook)
                watched.register_forward_pre_hook(hook, with_kwargs=True)
        yield
