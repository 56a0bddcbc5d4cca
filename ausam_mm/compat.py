"""Makes unmodified releases of mmpose, MMEngine and PyTorch work together.

Three modules of mmpose import ``mmcv.ops`` or ``mmdet`` at their top, so that
without those packages no model of mmpose can be imported, whatever it needs.
:func:`install` puts a finder on ``sys.meta_path`` that changes how these three
modules are imported: a stub takes the place of the missing package while the
module's top level runs, and is removed afterwards. Building a model that needs
the package raises an :class:`ImportError` that names it.

mmpose's visualizer calls ``int`` on an array of one radius, which numpy 2.4
refuses. The same finder makes it a number.

mmpose also imports ``xtcocotools``. Where only pycocotools is installed, a
second finder answers with :mod:`ausam_mm.xtcocotools`, which is made of it.

MMEngine 0.10.7 resumes with ``torch.load``, which from PyTorch 2.6 on refuses
what MMEngine itself writes into its checkpoints. :func:`install` allows
exactly that.
"""

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.utils import digit_version

from .checkpoints import MMENGINES

# What these modules of mmpose 1.3.2 import unguarded at their top.
_UNGUARDED = {
    'mmpose.models.heads.hybrid_heads.rtmo_head': 'mmdet.utils',
    'mmpose.models.heads.transformer_heads.edpose_head': 'mmcv.ops',
    'mmpose.models.heads.transformer_heads.transformers.'
    'deformable_detr_layers': 'mmcv.ops',
}

_VISUALIZER = 'mmpose.visualization.opencv_backend_visualizer'

_REMEDY = {
    'mmcv.ops': 'mmcv with compiled ops (the full `mmcv`, not `mmcv-lite`)',
    'mmdet.utils': '`mmdet`',
    'imgaug': '`imaug`',
}


def is_missing(module: str) -> bool:
    """Whether a module that mmpose imports unguarded cannot be imported.

    Args:
        module (str): ``'mmcv.ops'`` or ``'mmdet.utils'``.

    Returns:
        bool: True if it is not installed.
    """
    # mmcv.ops can be present as Python files while the extension is not.
    probe = 'mmcv._ext' if module == 'mmcv.ops' else module.split('.')[0]
    try:
        return importlib.util.find_spec(probe) is None
    except ModuleNotFoundError:
        return True


def stand_in(module: str) -> types.ModuleType:
    """A module whose every attribute is a class that refuses to be built."""

    def __getattr__(name: str) -> type:  # noqa: N807
        if name.startswith('__'):
            raise AttributeError(name)

        def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
            remedy = next(text for part, text in _REMEDY.items()
                          if f'{module}.'.startswith(f'{part}.'))
            raise ImportError(
                f'{module}.{name} is needed here: install {remedy}.')

        return type(name, (), {'__init__': refuse, '__module__': module})

    stub = types.ModuleType(module)
    vars(stub)['__getattr__'] = __getattr__
    return stub


def _stubs_of(module: str) -> dict[str, types.ModuleType]:
    """Stand-ins for a module, and for its package if that is missing."""
    stubs = {module: stand_in(module)}
    package = module.split('.')[0]
    if importlib.util.find_spec(package) is None:
        stubs[package] = types.ModuleType(package)
        stubs[package].__path__ = []
    return stubs


@contextmanager
def standing_in(stubs: dict[str, types.ModuleType]) -> Iterator[None]:
    """Makes stubs importable by their names inside the context only."""
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, original in before.items():
            if original is None:
                del sys.modules[name]
            else:
                sys.modules[name] = original


def _take_radius_as_number(visualizer: Any) -> None:
    """Changes a method of mmpose 1.3.2 so that numpy 2.4 lets it draw."""
    draw = visualizer.draw_circles

    @functools.wraps(draw)
    def draw_circles(self: Any, center: Any, radius: Any, *args: Any,
                     **kwargs: Any) -> Any:
        if self.backend == 'opencv':
            radius = np.asarray(radius).item()
        return draw(self, center, radius, *args, **kwargs)

    visualizer.draw_circles = draw_circles


class _Finder:
    """Finds the modules of ``_UNGUARDED`` and runs them with stubs.

    It changes mmpose's visualizer, too.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None,
                  target: types.ModuleType | None = None
                  ) -> importlib.machinery.ModuleSpec | None:
        missing = _UNGUARDED.get(name)
        if name != _VISUALIZER and (
                missing is None or not is_missing(missing)):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            with standing_in(_stubs_of(missing) if missing else {}):
                execute(module)
            if name == _VISUALIZER:
                _take_radius_as_number(module.OpencvBackendVisualizer)

        loader.exec_module = exec_module
        return spec


class _CocoToolsFinder:
    """Finds ``xtcocotools`` in this package, where nothing else has it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None,
                  target: types.ModuleType | None = None
                  ) -> importlib.machinery.ModuleSpec | None:
        if name != 'xtcocotools' or \
                importlib.util.find_spec('pycocotools') is None:
            return None
        folder = Path(__file__).with_name('xtcocotools')
        return importlib.util.spec_from_file_location(
            name, folder / '__init__.py',
            submodule_search_locations=[str(folder)])


def _allow_mmengines_checkpoints() -> None:
    """Allows PyTorch to load the classes in MMEngine's checkpoints.

    For scripts that load without :func:`ausam_mm.checkpoint_loading`.
    """
    if digit_version(torch.__version__) < digit_version('2.6'):
        return  # it loads everything by default
    new = digit_version(np.__version__) >= digit_version('2.0')
    numpy: Any = np
    multiarray = (numpy._core if new else numpy.core).multiarray
    torch.serialization.add_safe_globals([
        *MMENGINES, np.ndarray, np.dtype,
        *(type(np.dtype(kind)) for kind in '?bBhHiIlLefd'),
        *((getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
          for name in ('_reconstruct', 'scalar')
          for core in ('core', '_core')),
    ])


def install() -> None:
    """Installs finders and the allowance; ``import ausam_mm`` calls it.

    The finders act only when mmpose or xtcocotools is imported, and only for
    packages that are not installed.
    """
    _allow_mmengines_checkpoints()
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder)
    if not any(finder is _CocoToolsFinder for finder in sys.meta_path):
        sys.meta_path.append(_CocoToolsFinder)  # an installed one comes first
