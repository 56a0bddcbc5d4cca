"""A batch as the data loader made it: its size, its parts, its samples' keys.

A batch is what MMEngine's collate functions return: a dict (or tuple) of
tensors with the samples along the first dimension and of lists with one
element a sample.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Fields that identify a training sample, as far as a data sample has them. An
# index alone does not: ConcatDataset and CombinedDataset restart it.
_IDENTITY = ('dataset_name', 'img_path', 'sample_idx', 'id', 'img_id')


def _sizes(value: Any) -> set[int]:
    """All numbers of samples that a part of a batch may hold."""
    if isinstance(value, Tensor):
        return {value.size(0)} if value.ndim else set()
    if isinstance(value, Mapping):
        return set().union(*(_sizes(part) for part in value.values()))
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        # One element a sample, or several views with all samples in each.
        views = {
            part.size(0) if isinstance(part, Tensor) and part.ndim else -1
            for part in value
        }
        return {len(value)} | (views - {-1} if len(views) == 1 else set())
    return set()


def batch_size(data: Any) -> int:
    """The number of samples of a batch.

    Raises:
        ValueError: If ``data`` is no batch, or its inputs and data samples
            are not equally many.
    """
    if isinstance(data, Mapping):
        inputs, samples = data.get('inputs'), data.get('data_samples')
    elif isinstance(data, Sequence) and len(data) >= 1:
        inputs, samples = data[0], (data[1] if len(data) > 1 else None)
    else:
        raise ValueError(
            'A batch must be a dict, tuple or list, not a '
            f'{type(data).__name__}: let the data loader collate it with '
            'pseudo_collate or default_collate.')
    sizes = _sizes(inputs)
    if samples is not None:
        num_samples = len(samples)
        if num_samples not in sizes:
            raise ValueError(
                f'The batch has inputs for {sorted(sizes)} samples but '
                f'{num_samples} data samples: make the collate_fn of '
                'train_dataloader return one data sample for each input.')
        return num_samples
    if isinstance(inputs, Tensor) and inputs.ndim:
        return inputs.size(0)
    if isinstance(inputs, Sequence) and len(inputs):
        return len(inputs)
    raise ValueError(
        'The batch has no `inputs` whose first dimension counts the samples: '
        'return a dict with `inputs` and `data_samples` from the data loader.')


def take(data: Any, index: Tensor, size: int) -> Any:
    """The part of a batch that holds the samples in ``index``.

    Args:
        data (dict | tuple | list): A batch: a container of parts, each of
            them a tensor with the samples along its first dimension, a list
            of samples, or a list or dict of such tensors.
        index (Tensor): The wanted samples' positions, shape (k, ), int64, on
            the CPU.
        size (int): The number of samples of the batch; parts of another size
            are returned unchanged.

    Returns:
        dict | tuple | list: The same structure with k samples.
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
    elif isinstance(part, Sequence) and not isinstance(part, (str, bytes)):
        if len(part) == size:
            return [part[i] for i in index.tolist()]
        return take(part, index, size)
    elif isinstance(part, Mapping):
        return take(part, index, size)
    return part


def sample_keys(data: Any) -> Tensor:
    """A key for each sample of a batch, which identifies it in the training.

    The key stays the same through shuffling, epochs, processes and restarts.
    It is made of ``dataset_name``, ``img_path``, ``sample_idx``, ``id`` and
    ``img_id``, as far as the data sample has them. So samples differ under
    ConcatDataset and CombinedDataset (which restart ``sample_idx``) and for
    several persons in an image. The copies of RepeatDataset are one sample.

    Returns:
        Tensor: The keys, shape (b, ), int64, on the CPU.

    Raises:
        ValueError: If the data samples carry none of these fields.
    """
    samples = data.get('data_samples') if isinstance(data, Mapping) else None
    if samples is None or isinstance(samples, Tensor):
        raise ValueError(
            'The batch has no data samples that say which training sample is '
            'which: return `data_samples` with `sample_idx` or `img_path` '
            "from the data loader, or set scores='uniform'.")
    return torch.tensor([_key(sample) for sample in samples])


def _key(sample: Any) -> int:
    identity = [(name, sample.get(name)) for name in _IDENTITY
                if hasattr(sample, 'get') and sample.get(name) is not None]
    if not identity:
        raise ValueError(
            f'The data samples ({type(sample).__name__}) carry none of '
            f'{", ".join(_IDENTITY)}, by which AUSAM knows a training sample: '
            'add `sample_idx` or `img_path` to the meta_keys of the packing '
            "transform, or set scores='uniform'.")
    if len(identity) == 1 and isinstance(identity[0][1], int):
        return identity[0][1]
    # Not hash(): it differs between processes for strings.
    digest = hashlib.blake2b(repr(identity).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little', signed=True)
