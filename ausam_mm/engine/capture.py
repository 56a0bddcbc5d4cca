"""The one place that hooks the model: the batch, and the call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..internals import not_compiled

Call = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def capture(model: nn.Module, inner: nn.Module,
            on_batch: Callable[[Any], Any],
            on_call: Callable[[Call], Call]) -> Iterator[None]:
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

    handles = []
    try:
        preprocessor = getattr(inner, 'data_preprocessor', None)
        if preprocessor is not None:
            handles.append(
                preprocessor.register_forward_pre_hook(
                    before_preprocessing, with_kwargs=True))
        handles.append(
            model.register_forward_pre_hook(before_forward, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
