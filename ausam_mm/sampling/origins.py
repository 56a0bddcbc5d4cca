"""Which training sample an index of a wrapped dataset stands for."""

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from ..internals import has_copies, original_index


class Origins:
    """Numbers the samples of a dataset, with one number for all copies.

    RepeatDataset and ClassBalancedDataset (also within ConcatDataset) give
    one sample several indices. Here it has one number, from 0.

    Args:
        dataset (Sized): The dataset, with MMEngine's wrappers if any.

    Example:
        >>> from ausam_mm.sampling.origins import Origins
        >>> from mmengine.dataset import BaseDataset, RepeatDataset
        >>> class Three(BaseDataset):
        ...     def load_data_list(self):
        ...         return [{}, {}, {}]
        >>> origins = Origins(RepeatDataset(Three(), times=2))
        >>> [origins(index) for index in range(6)]
        [0, 1, 2, 0, 1, 2]
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._parts: list[Origins] = []
        self._ends: list[int] = []  # of the parts' indices
        self._firsts: list[int] = []  # numbers of the parts' first samples
        self.straight = False  # whether every index is a sample of its own
        if isinstance(dataset, ConcatDataset):
            self._parts = [Origins(part) for part in dataset.datasets]
            parts: list[Any] = dataset.datasets
            self._ends = [*accumulate(map(len, parts))]
            self._firsts = [0, *accumulate(map(len, self._parts))]
            self.straight = all(part.straight for part in self._parts)
        elif has_copies(dataset):
            self._parts = [Origins(dataset.dataset)]
        else:
            self.straight = True

    @property
    def restarts_index(self) -> bool:
        """Whether a sample's index in its own dataset is not unique here."""
        return _joins(self._dataset)

    def __len__(self) -> int:
        """How many different samples there are."""
        if self._parts:
            return sum(map(len, self._parts))
        return len(self._dataset)

    def of(self, indices: Tensor) -> Tensor:
        """The numbers of the samples that indices stand for.

        Args:
            indices (Tensor): Indices in the dataset, shape (n, ), int64.

        Returns:
            Tensor: From 0 to ``len(self) - 1``, shape (n, ), int64.
        """
        if self.straight:
            return indices
        return torch.tensor([self(index) for index in indices.tolist()])

    def __call__(self, index: int) -> int:
        """The number of the sample that an index stands for.

        Returns:
            int: From 0 to ``len(self) - 1``.
        """
        if self.straight:
            return index
        if not isinstance(self._dataset, ConcatDataset):
            return self._parts[0](original_index(self._dataset, index))
        part = bisect_right(self._ends, index)
        within = index - (self._ends[part - 1] if part else 0)
        return self._firsts[part] + self._parts[part](within)


def _joins(dataset: Any) -> bool:
    """Whether a dataset, or one within it, is made of several others."""
    parts = [*getattr(dataset, 'datasets', ())]
    if hasattr(dataset, 'dataset'):
        parts.append(dataset.dataset)
    return len(parts) > 1 or any(map(_joins, parts))
