"""Loads checkpoints without running what they hold.

A checkpoint is a pickle, which may call any function when it is loaded.
PyTorch's ``weights_only=True`` calls those of a list alone. MMEngine's own
checkpoints need more than that list, so MMEngine adds to it (0.10.12), or asks
for ``weights_only=False`` where it does not suffice. Both let a file run code:
with Python's ``getattr``, which MMEngine adds, everything is in reach.
:func:`checkpoint_loading` adds what MMEngine writes and no more.
"""

import functools
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from mmengine.utils import digit_version
from numpy.typing import NDArray

from . import internals

# The functions that MMEngine's objects refer to.
_METHODS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (HistoryBuffer, ('current', 'max', 'mean', 'min')),
    (OneCycleParamScheduler, ('_annealing_cos', '_annealing_linear')),
)


def _method(owner: Any, name: Any) -> Any:
    """Stands for Python's getattr."""
    if not any(owner is kind and name in names for kind, names in _METHODS):
        raise pickle.UnpicklingError(
            f'it may not name the attribute {name!r}')
    return getattr(owner, name)


class _Dtype:
    """Stands for numpy.dtype, which takes over any flags and fields.

    With these a file could have its bytes taken for pointers.
    """

    def __init__(self, code: Any, align: Any = None, copy: Any = None) -> None:
        dtype = np.dtype(code if isinstance(code, str) else object)
        if dtype.kind not in 'biufcSU':  # numbers and text
            raise pickle.UnpicklingError(
                f'it asks for a numpy.dtype of {code!r}')
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """Stands for numpy.ndarray; what is computed from it, or saved, is one."""

    __array_priority__ = -1.

    def __new__(cls, *args: Any) -> '_Array':
        return super().__new__(cls, 0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        array: NDArray[Any] = np.frombuffer(content, dtype.dtype).reshape(
            shape, order='F' if fortran else 'C')
        checked: Any = array.__reduce__()
        super().__setstate__(checked[2])

    def __array_wrap__(self, array: Any, *args: Any) -> Any:
        return np.asarray(array)[()]

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()


def _array(*args: Any) -> _Array:
    """Stands for numpy's _reconstruct, whose content comes later."""
    return _Array()


def _scalar(dtype: _Dtype, content: bytes) -> Any:
    """Stands for numpy's function of this name."""
    return np.frombuffer(content, dtype.dtype, 1)[0]


# What MMEngine's checkpoints name beside what PyTorch knows: the history of
# the logged values, the functions of a OneCycle schedule, and what is in
# numpy's arrays.
MMENGINES: list[Any] = [
    *((kind, f'{kind.__module__}.{kind.__qualname__}')
      for kind, _ in _METHODS),
    (_method, 'builtins.getattr'),
    (bytes, 'builtins.bytes'),  # of an empty array
]
# Names differ between numpy 1 and 2, and a checkpoint may be of either.
_NUMPYS: list[Any] = [
    (_Array, 'numpy.ndarray'),
    (_Dtype, 'numpy.dtype'),
    *((function, f'numpy.{core}.multiarray.{name}')
      for function, name in ((_array, '_reconstruct'), (_scalar, 'scalar'))
      for core in ('core', '_core')),
]


def _is_replaced(allowed: Any) -> bool:
    """Whether something that is allowed has a stand-in here."""
    name = allowed[1] if isinstance(allowed, tuple) else \
        f'{allowed.__module__}.{allowed.__qualname__}'
    return name == 'builtins.getattr' or name.startswith('numpy.')


@contextmanager
def _allowing() -> Iterator[None]:
    """Allows what MMEngine writes, and what the user has allowed."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(
        [each for each in before if not _is_replaced(each)]
        + MMENGINES + _NUMPYS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


class UntrustedCheckpointError(RuntimeError):
    """A file was not loaded, because that could run code.

    Args:
        refusal (str): A sentence on the file and what it asks for.
    """

    def __init__(self, refusal: str) -> None:
        super().__init__(
            f'{refusal} If you trust where it comes from, load it in '
            'checkpoint_loading(trust=True).')
        self.refusal = refusal


def _load_weights_only(load: Callable[..., Any], file: Any, *args: Any,
                       **kwargs: Any) -> Any:
    """Loads by ``torch.load``, or says what the file asks for."""
    name = file if isinstance(file, (str, os.PathLike)) else 'A checkpoint'
    if digit_version(torch.__version__) < digit_version('2.6'):
        raise UntrustedCheckpointError(
            f'{name} was not loaded, because it could run code: before '
            'PyTorch 2.6 weights_only=True does not prevent that.')
    kwargs['weights_only'] = True
    with _allowing():
        try:
            return load(file, *args, **kwargs)
        except (pickle.UnpicklingError, RuntimeError) as error:
            reason = internals.weights_only_refusal(error)
            if reason is None:
                raise
    raise UntrustedCheckpointError(
        f'{name} was not loaded, because it could run code: {reason}.')


def _load_all(load: Callable[..., Any], file: Any, *args: Any,
              **kwargs: Any) -> Any:
    """Loads by ``torch.load`` with the default of PyTorch before 2.6."""
    if kwargs.get('weights_only') is None:
        kwargs['weights_only'] = False
    return load(file, *args, **kwargs)


@contextmanager
def checkpoint_loading(trust: bool = False) -> Iterator[None]:
    """Decides what ``torch.load`` may load in the context, whoever calls it.

    Train inside: MMEngine loads ``init_cfg`` and ``load_from`` only when the
    training starts.

    Args:
        trust (bool): Whether files may run code. Without, all are loaded with
            ``weights_only=True``; beside what PyTorch allows then they may
            hold what MMEngine writes and what you have allowed with
            ``torch.serialization.add_safe_globals``, numpy's classes
            excepted. Defaults to False.

    Raises:
        UntrustedCheckpointError: In the context, if a file holds more, or
            PyTorch is older than 2.6.

    Example:
        >>> import io
        >>> import torch
        >>> from mmengine.logging import HistoryBuffer
        >>> from ausam_mm import checkpoint_loading
        >>> file = io.BytesIO()
        >>> torch.save(dict(loss=HistoryBuffer([1., 2.], [1, 1])), file)
        >>> _ = file.seek(0)
        >>> with checkpoint_loading():
        ...     print(torch.load(file)['loss'].max())
        2.0
    """
    load = torch.load
    torch.load = functools.partial(
        _load_all if trust else _load_weights_only, load)
    try:
        yield
    finally:
        torch.load = load
