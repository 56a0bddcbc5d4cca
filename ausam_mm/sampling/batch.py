"""A batch as the data loader made it: its size, its parts, its samples' keys.

A batch is what MMEngine's collate functions return: a dict, tuple, list or
namedtuple of parts. A part holds all samples: a tensor along its first
dimension, a list with one element a sample, or a container of such parts, as
views and collated dicts are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

# Fields that identify a training sample, as far as it has them. An index alone
# does not: ConcatDataset and CombinedDataset restart it.
IDENTITY = ('dataset_name', 'img_path', 'sample_idx', 'id', 'img_id')

Identity = dict[str, Any]  # some of these fields


def is_list(value: Any) -> bool:
    """Whether a value is a list, a tuple or alike, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def parts_of(data: Any) -> list[Any]:
    """The parts of a batch, or of a container in it."""
    return list(data.values() if isinstance(data, Mapping) else data)


# -- how many samples there are, and some of them --


def batch_size(data: Any) -> int:
    """The number of samples of a batch.

    The inputs and the data samples have to be equally many; of a batch
    without these names, its first two parts. If their numbers are not clear,
    which happens with lists of tensors alone, the other parts decide, then
    the rule of :func:`take`.

    Raises:
        ValueError: If ``data`` is no batch, or its inputs and data samples
            are not equally many.
    """
    if not isinstance(data, Mapping) and not is_list(data):
        raise ValueError(
            'A batch must be a dict, tuple or list, not a '
            f'{type(data).__name__}: let the data loader collate it with '
            'pseudo_collate or default_collate.')
    if isinstance(data, Mapping) and 'inputs' in data:
        parts = [data['inputs'], data.get('data_samples')]
    else:
        parts = parts_of(data)
    counted = [(part, found) for part in parts if (found := _sizes(part))]
    (first, sizes), *rest = counted or [(None, set())]
    others = [found for _, found in rest]
    if others and not sizes & others[0]:
        few, many = sorted(sizes), sorted(others[0])
        raise ValueError(
            f'The batch has inputs for {few} samples but '
            f'{many[0] if len(many) == 1 else many} data samples: make the '
            'collate_fn of train_dataloader return one data sample for each '
            'input.')
    for more in others:
        sizes = sizes & more or sizes
    if len(sizes) > 1 and is_list(first):
        views = _is_container(first)
        sizes = sizes - {len(first)} if views else {len(first)}
    if len(sizes) != 1:
        raise ValueError(
            'The batch has no part whose first dimension counts the samples: '
            'return a dict with `inputs` and `data_samples`, or a tuple, from '
            'the dataset.')
    return sizes.pop()


def take(data: Any, index: Tensor, size: int) -> Any:
    """The part of a batch that holds the samples in ``index``.

    A list of n tensors for n samples may hold a tensor of each sample, or n
    views, each of all samples, if the first dimensions are n, too. The number
    of dimensions decides: with up to one they are feature vectors of samples,
    with 3 images of samples, with 4 views of images; with different numbers
    they are parts, as inputs and labels are. A list of n lists holds views,
    since MMEngine's collate functions put nothing else there.

    Args:
        data (dict | tuple | list): A batch: a container of parts, each of
            them a tensor with the samples along its first dimension, a list
            of samples, or a container of parts.
        index (Tensor): The wanted samples' positions, shape (k, ), int64, on
            the CPU.
        size (int): The number of samples of the batch; parts of another size
            are returned unchanged.

    Returns:
        dict | tuple | list: The same structure with k samples.

    Raises:
        ValueError: If it is not clear what a list of tensors holds.
    """
    if isinstance(data, Mapping):
        return {key: _take(part, index, size) for key, part in data.items()}
    parts = [_take(part, index, size) for part in data]
    if hasattr(data, '_fields'):  # a namedtuple
        return type(data)(*parts)
    return type(data)(parts)


def _take(part: Any, index: Tensor, size: int) -> Any:
    if isinstance(part, Tensor):
        if part.ndim and part.size(0) == size:
            return part.index_select(0, index.to(part.device))
    elif is_list(part):
        if len(part) == size and not _may_be_views(part, size):
            return [part[i] for i in index.tolist()]
        return take(part, index, size)
    elif isinstance(part, Mapping):
        return take(part, index, size)
    return part


def _sizes(value: Any) -> set[int]:
    """All numbers of samples that a part of a batch may hold."""
    if isinstance(value, Tensor):
        return {value.size(0)} if value.ndim else set()
    if isinstance(value, Mapping) or hasattr(value, '_fields'):
        sizes = [found for part in parts_of(value) if (found := _sizes(part))]
        return set.intersection(*sizes) or set.union(*sizes) \
            if sizes else set()
    if is_list(value):
        # One element a sample, or several views with all samples in each.
        return {len(value)} | (_sizes_of_views(value) if value else set())
    return set()


def _sizes_of_views(part: Sequence[Any]) -> set[int]:
    """The numbers of samples that each element of a list may hold."""
    if isinstance(part[0], Tensor):  # most often; so it is fast
        sizes = {element.size(0) if isinstance(element, Tensor)
                 and element.ndim else -1 for element in part}
        if -1 not in sizes:
            return sizes if len(sizes) == 1 else set()
    if isinstance(part[0], Tensor) or is_list(part[0]):
        return set.intersection(*map(_sizes, part))
    return set()


def _may_be_views(part: Sequence[Any], size: int) -> bool:
    """Whether a list with as many elements as samples is a container.

    Raises:
        ValueError: If that is not clear.
    """
    if hasattr(part, '_fields'):
        return True
    if size not in _sizes(part[0]) or size not in _sizes_of_views(part):
        return False
    views = _is_container(part)
    if views is None:
        raise ValueError(
            f'The batch has a list of {size} tensors with {part[0].ndim} '
            f'dimensions, which may be {size} samples, or {size} views of all '
            'samples. Stack samples by collate_fn=dict(type='
            "'default_collate'); for views take another batch_size.")
    return views


def _is_container(part: Sequence[Any]) -> bool | None:
    """Whether each element of a list holds all samples, where it may.

    Returns:
        bool, optional: By the rule of :func:`take`; None if that has none.
    """
    if all(map(is_list, part)):
        return True
    dimensions = {element.ndim if isinstance(element, Tensor) else -1
                  for element in part}
    if len(dimensions) > 1:
        return True
    return {-1: False, 0: False, 1: False, 3: False, 4: True}.get(
        dimensions.pop())


# -- which samples they are --


def sample_keys(data: Any, numbers: Tensor | None = None,
                restarting: bool = False) -> Tensor:
    """A key for each sample of a batch, which identifies it in the training.

    The key stays the same through shuffling, epochs, processes and restarts.
    It is made of ``dataset_name``, ``img_path``, ``sample_idx``, ``id`` and
    ``img_id``, as far as the sample has them. So samples differ under
    ConcatDataset and CombinedDataset (which restart ``sample_idx``) and for
    several persons in an image. The copies of RepeatDataset are one sample.

    They are looked for in the data samples, at the top of the batch, and in
    its other parts; there they may be collated or not. The samples of several
    tasks carry them in the parts of the tasks.

    Args:
        data (dict | tuple | list): A batch.
        numbers (Tensor, optional): The samples' numbers in the dataset, shape
            (b, ), int64, which are the keys of samples that have none of
            these fields. Defaults to None.
        restarting (bool): Whether ``sample_idx`` is not unique, so that it
            counts for nothing where it stands alone and there are numbers.
            Defaults to False.

    Returns:
        Tensor: The keys, shape (b, ), int64, on the CPU.

    Raises:
        ValueError: If a sample carries none of these fields, and has no
            number.
    """
    return keys_of(identities(data), numbers, restarting)


def keys_of(found: list[Identity], numbers: Tensor | None = None,
            restarting: bool = False) -> Tensor:
    """The keys of samples whose identities are known.

    Args:
        found (list[dict]): The identities, or nothing if there are none.
        numbers (Tensor, optional): As for :func:`sample_keys`.
        restarting (bool): As for :func:`sample_keys`.
    """
    if numbers is not None:
        if not found:
            return numbers
        return torch.tensor([
            _key(one) if one and not (restarting and _is_index(one))
            else number for one, number in zip(found, numbers.tolist())])
    if not found or {} in found:
        raise ValueError(
            f'The samples of the batch carry none of {", ".join(IDENTITY)}, '
            'by which AUSAM knows a training sample: set train_dataloader.'
            "batch_sampler=dict(type='AUSAMBatchSampler'), which knows their "
            'numbers, return `sample_idx` or `img_path` with each sample (by '
            'the meta_keys of a packing transform), or set '
            "scores='uniform'.")
    return torch.tensor([_key(one) for one in found])


def identities(data: Any) -> list[Identity]:
    """The fields that identify each sample of a batch.

    Returns:
        list[dict]: The fields of each sample; empty if no sample has any.
    """
    if isinstance(data, Mapping):
        rest = [part for name, part in data.items() if name != 'data_samples']
        places = [data.get('data_samples'), data, *rest]
    elif hasattr(data, '_fields'):  # a namedtuple
        return identities(data._asdict())
    else:
        places = parts_of(data)
    for place in places:
        if hasattr(place, '_asdict'):
            place = place._asdict()
        if isinstance(place, Mapping):
            found = _from_columns(place)
        elif is_list(place) and all(hasattr(one, 'get') for one in place):
            found = [_identity(sample) for sample in place]
        else:
            continue
        if any(found):
            return found
    return []


def shared_index(data: Any, found: list[Identity]) -> int | None:
    """A ``sample_idx`` that stands for two samples of a batch.

    Two that carry nothing else may be the same sample, loaded twice and
    augmented; so their labels are compared: what is not the input.

    Args:
        data (dict | tuple | list): A batch.
        found (list[dict]): Its samples' identities.

    Returns:
        int, optional: The index; None if there is none.
    """
    first: dict[Any, int] = {}
    for i, one in enumerate(found):
        if _is_index(one):
            j = first.setdefault(one['sample_idx'], i)
            if j != i and not _same(*(
                    take(_labels(data), torch.tensor([k]), len(found))
                    for k in (i, j))):
                return int(one['sample_idx'])
    return None


def _from_columns(data: Mapping[str, Any]) -> list[Identity]:
    """The identities in collated samples: a column for each field."""
    columns = {name: data[name].tolist() if isinstance(data[name], Tensor)
               else data[name] for name in IDENTITY if name in data}
    columns = {name: column for name, column in columns.items()
               if is_list(column)}
    return [{name: _plain(value) for name, value in zip(columns, values)
             if value is not None} for values in zip(*columns.values())]


def _identity(sample: Any) -> Identity:
    """The fields of one sample, or those in the part of a task."""
    found = {name: _plain(value) for name in IDENTITY
             if (value := sample.get(name)) is not None}
    if not found and hasattr(sample, 'values'):
        for part in sample.values():
            if isinstance(part, (Mapping, BaseDataElement)):
                found = found or _identity(part)
    return found


def _plain(value: Any) -> Any:
    """A number for a tensor or an array of one, which has the same key."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    return value


def _is_index(identity: Identity) -> bool:
    return len(identity) == 1 and 'sample_idx' in identity


def _key(identity: Identity) -> int:
    if len(identity) == 1:
        value, = identity.values()
        if isinstance(value, int) and -2**63 <= value < 2**63:
            return value
    # Not hash(): it differs between processes for strings.
    digest = hashlib.blake2b(
        repr(list(identity.items())).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little', signed=True)


def _labels(data: Any) -> list[Any]:
    """The part of a batch that follows its input, in a list, if any."""
    if hasattr(data, '_asdict'):
        data = data._asdict()
    if isinstance(data, Mapping):
        if 'data_samples' in data:
            return [data['data_samples']]
        data = [part for name, part in data.items() if name not in IDENTITY]
    return list(data[1:2])


def _same(one: Any, other: Any) -> bool:
    """Whether two labels are equal; how they were augmented is none."""
    if isinstance(one, BaseDataElement):
        one, other = dict(one.items()), dict(other.items())
    if isinstance(one, (Tensor, np.ndarray)):
        return np.array_equal(one, other, equal_nan=True)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(
            _same(one[name], other[name]) for name in one)
    if is_list(one):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, (str, bytes, int, float)):
        return bool(one == other)
    return True
