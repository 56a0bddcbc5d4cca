"""Makes mmdet work where mmcv was installed without its compiled ops.

Many modules of mmdet import ``mmcv.ops`` at their top, so that none of its
models can be imported without ``mmcv._ext``, whatever it needs.
:func:`install` puts a finder on ``sys.meta_path``: a stub takes the place of
``mmcv.ops`` while the top level of such a module runs, and is removed
afterwards. What is taken from the stub raises an :class:`ImportError` that
names it when it is built or called, but for three functions that torchvision
has, too: :func:`nms`, :func:`batched_nms` and :func:`sigmoid_focal_loss`. In
the same way mmdet's transforms are imported without imgaug, which few need.
"""

import importlib.machinery
import re
import sys
import types
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .compat import is_missing, stand_in, standing_in

# What a module takes of a package: parts of it, or the package.
_TAKES = {
    'mmcv.ops': re.compile(r'\bmmcv\.ops(?:\.\w+)*|\bfrom mmcv import ops\b'),
    'imgaug': re.compile(r'\bimgaug(?:\.\w+)+'),
}


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0,
        score_threshold: float = 0., max_num: int = -1
        ) -> tuple[Tensor, Tensor]:
    """``mmcv.ops.nms`` by torchvision: the best boxes that overlap little.

    Args:
        boxes (Tensor): Corners x1, y1, x2, y2, shape (N, 4).
        scores (Tensor): Shape (N, ).
        iou_threshold (float): Boxes that overlap a better one by more go.
        offset (int): 1 where a box includes the pixels of both its edges.
            Defaults to 0.
        score_threshold (float): Boxes with up to this score go, if it is
            above 0. Defaults to 0.
        max_num (int): The most boxes that stay; -1 for all. Defaults to -1.

    Returns:
        tuple[Tensor, Tensor]: Boxes with their scores, shape (K, 5), the best
        first, and their positions, shape (K, ).
    """
    none = torch.zeros_like(scores, dtype=torch.long)
    return _best(boxes, scores, none, iou_threshold, offset, score_threshold,
                 max_num)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor,
                nms_cfg: dict[str, Any] | None, class_agnostic: bool = False
                ) -> tuple[Tensor, Tensor]:
    """``mmcv.ops.batched_nms`` by torchvision: :func:`nms` for each class.

    Args:
        boxes (Tensor): Corners, shape (N, 4).
        scores (Tensor): Shape (N, ).
        idxs (Tensor): The classes of the boxes, shape (N, ).
        nms_cfg (dict, optional): The arguments of :func:`nms`, and ``type``
            'nms'; None sorts the boxes, and keeps them all.
        class_agnostic (bool): Whether classes make no difference. Defaults
            to False.

    Returns:
        tuple[Tensor, Tensor]: As of :func:`nms`.

    Raises:
        ImportError: If only mmcv's compiled ops can do it.
    """
    if nms_cfg is None:
        order = scores.argsort(descending=True)
        return torch.cat([boxes, scores[:, None]], 1)[order], order
    options = {**nms_cfg}
    kind = options.pop('type', 'nms')
    # It bounds the memory that mmcv uses, and changes no result.
    options.pop('split_thr', None)
    class_agnostic = options.pop('class_agnostic', class_agnostic)
    if kind != 'nms' or boxes.size(1) != 4:
        what = kind if kind != 'nms' else 'nms_rotated'
        getattr(stand_in('mmcv.ops'), what)()  # refuses
    if class_agnostic:
        idxs = torch.zeros_like(idxs)
    if 'iou_thr' in options:  # mmcv's former name
        options['iou_threshold'] = options.pop('iou_thr')
    return _best(boxes, scores, idxs, **options)


def _best(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float,
          offset: int = 0, score_threshold: float = 0., max_num: int = -1
          ) -> tuple[Tensor, Tensor]:
    """The best boxes of each class, see :func:`nms`."""
    from torchvision.ops import batched_nms
    # Widths and heights count the offset, as those of wider boxes do.
    wider = boxes + boxes.new_tensor([0, 0, offset, offset])
    kept = torch.arange(len(scores), device=scores.device)
    if score_threshold > 0:
        kept = kept[scores > score_threshold]
    kept = kept[batched_nms(
        wider[kept].float(), scores[kept].float(), idxs[kept], iou_threshold)]
    if max_num > 0:
        kept = kept[:max_num]
    return torch.cat([boxes[kept], scores[kept, None]], 1), kept


def sigmoid_focal_loss(pred: Tensor, target: Tensor, gamma: float = 2.,
                       alpha: float = 0.25, weight: Tensor | None = None,
                       reduction: str = 'mean') -> Tensor:
    """``mmcv.ops.sigmoid_focal_loss`` by torchvision, for GPUs.

    mmdet computes the focal loss itself on a CPU.

    Args:
        pred (Tensor): Logits, shape (N, C).
        target (Tensor): Classes, shape (N, ); C is the background.
        gamma (float): The exponent. Defaults to 2.
        alpha (float): The weight of the positives. Defaults to 0.25.
        weight (Tensor, optional): None; mmdet weights the result.
        reduction (str): 'none', 'mean' over the N rows, or 'sum'. Defaults to
            'mean'.

    Raises:
        ImportError: If only mmcv's compiled ops can do it.
    """
    from torchvision import ops
    if weight is not None:
        stand_in('mmcv.ops').SigmoidFocalLoss()  # refuses
    classes = pred.size(1)
    one_hot = torch.nn.functional.one_hot(target, classes + 1)[:, :classes]
    losses: Tensor = ops.sigmoid_focal_loss(
        pred, one_hot.to(pred), alpha, gamma, 'none')
    if reduction == 'none':
        return losses
    return losses.sum() / (len(pred) if reduction == 'mean' else 1)


SUPPLIED = (nms, batched_nms, sigmoid_focal_loss)


def _stub(module: str) -> types.ModuleType:
    """A stand-in; that of ``mmcv.ops`` has what torchvision can do."""
    stub = stand_in(module)
    stub.__path__ = []  # a package
    if module.startswith('mmcv.'):
        vars(stub).update({each.__name__: each for each in SUPPLIED})
    return stub


def _stubs_of(modules: set[str]) -> dict[str, types.ModuleType]:
    """Stubs of missing modules, each an attribute of the one it lies in."""
    stubs = {name: _stub(name) for name in modules}
    for name, stub in stubs.items():
        parent, _, part = name.rpartition('.')
        if parent in stubs:
            setattr(stubs[parent], part, stub)
    return stubs


class _Finder:
    """Finds the modules of mmdet that need what is missing."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None,
                  target: types.ModuleType | None = None
                  ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith('mmdet.'):
            return None
        missing = [package for package in _TAKES if is_missing(package)]
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec else None
        if not hasattr(loader, 'get_source'):
            return None
        source = loader.get_source(name) or ''
        modules = {package for package in missing
                   if _TAKES[package].search(source)}
        if not modules:
            return None
        for package in tuple(modules):
            for part in _TAKES[package].findall(source):
                while part.startswith(f'{package}.'):  # with what it lies in
                    modules.add(part)
                    part = part.rpartition('.')[0]
        execute = loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            with standing_in(_stubs_of(modules)):
                execute(module)

        loader.exec_module = exec_module
        return spec


def install() -> None:
    """Installs the finder; ``import ausam_mm`` calls it.

    It acts only when mmdet is imported, and mmcv has no compiled ops.
    """
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder)
