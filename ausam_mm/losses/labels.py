"""Where in a batch of the data loader the labels of a loss module are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from .rules import find_rule

Path = list[str | int]
_EACH = '*'  # a step of a path: into each sample of a list
_DEPTH = 4


def find_labels(batch: Any, labels: Tensor) -> Path | None:
    """The place in a batch whose values are the labels of a loss module.

    Args:
        batch (Any): What the data loader returned.
        labels (Tensor): The labels of its samples, shape (b, ...). Those in
            the batch may be smaller, where the data preprocessor pads them.

    Returns:
        list, optional: The path to them; None if there is no such place.
    """
    rows = labels.detach().cpu()
    for path, first in _places(batch, len(rows), _DEPTH):
        if not _same(first, rows[0]):
            continue
        values = labels_at(batch, path)
        if len(values) == len(rows) and all(map(_same, values, rows)):
            return path
    return None


def labels_at(batch: Any, path: Path) -> list[Tensor]:
    """The labels of each sample of a batch.

    Args:
        batch (Any): What the data loader returned.
        path (list): What :func:`find_labels` returned.
    """
    if _EACH in path:
        place = path.index(_EACH)
        samples = _follow(batch, path[:place])
        values = [_follow(sample, path[place + 1:]) for sample in samples]
    else:
        values = list(_follow(batch, path))
    return [torch.as_tensor(value) for value in values]


def counts_at(batch: Any, places: dict[str, Path | float], module: nn.Module,
              num_samples: int) -> Tensor | None:
    """What each sample of a batch adds to the number that divides its loss.

    Args:
        batch (Any): What the data loader returned.
        places (dict[str, list | float]): Where the labels are, by the names
            that the rule of the module knows; of numbers, themselves.
        module (nn.Module): A loss module whose rule has ``counts``.
        num_samples (int): Samples of the full batch b.

    Returns:
        Tensor, optional: Shape (b, ), on the CPU; None if the batch does not
        hold the labels of all its samples.
    """
    rule = find_rule(module)[0]
    assert rule is not None
    device = next((buffer.device for buffer in module.buffers()),
                  torch.device('cpu'))
    labels = {name: labels_at(batch, place) for name, place in places.items()
              if isinstance(place, list)}
    if any(len(rows) != num_samples for rows in labels.values()):
        return None
    # What is no tensor is the same for all samples, or missing.
    others = {name: places.get(name) for name in rule.labels}
    if all(len({row.shape for row in rows}) == 1 for rows in labels.values()):
        counts = rule.counts_of(module, {**others, **{
            name: torch.stack(rows).to(device)
            for name, rows in labels.items()}})
        return None if counts is None else counts.cpu()
    counts_of_each = [rule.counts_of(module, {**others, **{
        name: rows[i].to(device)[None] for name, rows in labels.items()}})
        for i in range(num_samples)]
    return torch.cat([counts.cpu() for counts in counts_of_each
                      if counts is not None])


def _follow(value: Any, path: Path) -> Any:
    for step in path:
        value = getattr(value, str(step)) if isinstance(
            value, BaseDataElement) else value[step]
    return value


def _places(value: Any, num: int, depth: int) -> Iterator[tuple[Path, Any]]:
    """Paths to what may hold labels, with the first sample's."""
    if isinstance(value, Tensor):
        if value.ndim and len(value) == num:
            yield [], value[0]
        return
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) \
            and len(value) == num and depth == _DEPTH - 1:
        for path, first in _leaves(value[0], depth):
            yield [_EACH, *path], first
    if depth:
        for step, part in _parts(value):
            for path, first in _places(part, num, depth - 1):
                yield [step, *path], first


def _leaves(value: Any, depth: int) -> Iterator[tuple[Path, Any]]:
    """Paths to the tensors and numbers of one sample."""
    if isinstance(value, (Tensor, int, float)) or hasattr(value, 'dtype'):
        yield [], value
    elif depth:
        for step, part in _parts(value):
            for path, leaf in _leaves(part, depth - 1):
                yield [step, *path], leaf


def _parts(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, BaseDataElement):
        return [(name, getattr(value, name)) for name in value.all_keys()]
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return list(enumerate(value))
    return []


def _same(value: Any, row: Tensor) -> bool:
    """Whether a label of the batch is that of the module, but for padding."""
    label = torch.as_tensor(value).cpu()
    if label.is_floating_point() != row.is_floating_point():
        return False
    if label.numel() != row.numel():  # padded at the right and at the bottom
        label = label.squeeze()
        if label.ndim != row.ndim or not label.ndim or any(
                small > large for small, large in zip(label.shape, row.shape)):
            return False
        row = row[tuple(map(slice, label.shape))]
    return torch.equal(label.flatten().to(row.dtype), row.flatten())
