"""Which samples of a data set get a wrong label, and what keeps the true one.

The labels are changed where a data set hands out a sample's annotation, in
``get_data_info``, before its pipeline. So the pipeline, what balances classes
and what mixes several images all see the same label of a sample.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch import Tensor

from ..checks import is_number, require, require_choice
from ..internals import has_copies, original_index

Info = dict[str, Any]  # the annotation of a sample, before the pipeline


class Noise(ABC):
    """A data set with wrong labels: what labels and keypoints share.

    Exactly ``round(ratio * n)`` of the n samples are chosen, whatever their
    class. Which they are, and what they get, depends on the seed, n and the
    sample's index alone: not on workers, processes, order or epoch. With the
    same seed, the samples of a lower ratio are among those of a higher one.

    Each annotation has, besides the true label, ``wrong_label``: whether the
    sample was chosen.

    Args:
        dataset (BaseDataset | dict): The data set, or its config. A given one
            is not changed.
        ratio (float): Ratio of the samples that get a wrong label, in [0, 1].
        kind (str): How labels are wrong.
        seed (int): Seed, at least 0.
        lazy_init (bool): Whether annotations are read later, by
            :meth:`full_init`.

    Raises:
        ValueError: For options out of range, or a data set that is no
            BaseDataset or consists of others.
    """

    kinds: tuple[str, ...]
    kept: dict[str, str]  # what is changed, and the names of the true values

    def __init__(self, dataset: Any, ratio: float, kind: str, seed: int,
                 lazy_init: bool) -> None:
        name = type(self).__name__
        require(
            is_number(ratio) and 0 <= ratio <= 1,
            f'ratio={ratio!r} is no ratio of the samples: give {name} '
            '0 <= ratio <= 1, for example 0.2.')
        require_choice('kind', kind, *self.kinds)
        require(
            isinstance(seed, int) and seed >= 0,
            f'seed={seed!r} must be an integer of at least 0: the same seed '
            'gives the same wrong labels.')
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        require(
            isinstance(dataset, BaseDataset)
            and not hasattr(dataset, 'datasets'),
            f'{name} changes the labels of one BaseDataset, which a '
            f'{type(dataset).__name__} is not: put {name} around the data '
            'sets that others repeat or join, each by itself.')
        self.ratio = ratio
        self.kind = kind
        self.seed = seed
        # Of its own, since get_data_info is replaced.
        self.dataset: Any = copy.copy(dataset)
        self.dataset.get_data_info = self.get_data_info
        self._wrong: Tensor | None = None
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Reads the annotations and chooses the samples, once.

        Raises:
            ValueError: If the annotations are not what is expected.
        """
        if self._wrong is not None:
            return
        self.dataset.full_init()
        num = len(self.dataset)
        order = np.random.default_rng(self.seed).permutation(num)
        wrong = torch.zeros(num, dtype=torch.bool)
        wrong[torch.from_numpy(order[:round(self.ratio * num)])] = True
        if num:
            self._check(self._true_info(0))
        self._wrong = wrong

    @property
    def wrong(self) -> Tensor:
        """Which samples were chosen, by index, shape (n, ), bool; a copy."""
        return self._mask().clone()

    @property
    def metainfo(self) -> Info:
        """The data set's."""
        return dict(self.dataset.metainfo)

    @property
    def pipeline(self) -> Any:
        """The data set's; hooks change it during a training."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Any) -> None:
        self.dataset.pipeline = pipeline

    def __len__(self) -> int:
        return len(self._mask())

    def __getitem__(self, index: int) -> Any:
        """A sample after the data set's pipeline."""
        self.full_init()
        return self.dataset[index]

    def get_data_info(self, index: int) -> Info:
        """The annotation of a sample, with its wrong label if it has one.

        Args:
            index (int): Index in the data set.

        Returns:
            dict: The annotation, with the true label and ``wrong_label``.

        Raises:
            ValueError: If the sample cannot get a wrong label.
        """
        mask = self._mask()
        info = self._true_info(index)
        if index < 0:
            index += len(mask)
        for name, true in self.kept.items():
            info[true] = copy.deepcopy(info.get(name))
        info['wrong_label'] = bool(mask[index])
        if info['wrong_label']:
            self._check(info)
            self._spoil(info, np.random.default_rng([self.seed, 1, index]))
        return info

    def get_cat_ids(self, index: int) -> list[int]:
        """The classes of a sample, as labeled, for ClassBalancedDataset."""
        self.full_init()
        return list(self.dataset.get_cat_ids(index))

    def get_gt_labels(self) -> Any:
        """The labels of all samples, shape (n, ), as mmpretrain's have it."""
        self.full_init()
        return self.dataset.get_gt_labels()

    def get_subset(self, indices: Any) -> Any:
        """Refused: which samples are wrong would not be the same.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f'{type(self).__name__} has no subsets: set `indices` of the data '
            'set inside.')

    get_subset_ = get_subset

    def _mask(self) -> Tensor:
        self.full_init()
        assert self._wrong is not None
        return self._wrong

    def _true_info(self, index: int) -> Info:
        kind: Any = type(self.dataset)
        return dict(kind.get_data_info(self.dataset, index))

    @abstractmethod
    def _check(self, info: Info) -> None:
        """Raises a ValueError if an annotation cannot get a wrong label."""

    @abstractmethod
    def _spoil(self, info: Info, rng: np.random.Generator) -> None:
        """Puts a wrong label into an annotation."""


def wrong_samples(dataset: Any) -> Tensor:
    """Which samples have a wrong label, by index.

    Args:
        dataset (Sized): A data set: :class:`LabelNoise` or
            :class:`KeypointNoise`, also within MMEngine's ConcatDataset,
            RepeatDataset and ClassBalancedDataset or mmpose's
            CombinedDataset. What has no noise has true labels.

    Returns:
        Tensor: Shape (len(dataset), ), bool.

    Raises:
        ValueError: If an index does not stand for one sample, or for an
            unknown one.

    Example:
        >>> from ausam_mm import wrong_samples
        >>> from mmengine.dataset import BaseDataset, RepeatDataset
        >>> class Ten(BaseDataset):
        ...     METAINFO = dict(classes=('cat', 'dog', 'bird'))
        ...     def load_data_list(self):
        ...         return [dict(gt_label=i % 3) for i in range(10)]
        >>> wrong = wrong_samples(RepeatDataset(
        ...     dict(type='LabelNoise', dataset=Ten(), ratio=0.3), times=2))
        >>> int(wrong[:10].sum()), bool((wrong[:10] == wrong[10:]).all())
        (3, True)
    """
    name = type(dataset).__name__
    if isinstance(dataset, Noise):
        return dataset.wrong
    if hasattr(dataset, 'datasets'):
        require(
            not getattr(dataset, 'resample', False),
            f'An index of this {name} is another sample each time: leave '
            'sample_ratio_factor out to know which samples are wrong.')
        return torch.cat([wrong_samples(part) for part in dataset.datasets])
    if has_copies(dataset):
        indices = [original_index(dataset, i) for i in range(len(dataset))]
        return wrong_samples(dataset.dataset)[indices]
    require(
        not hasattr(dataset, 'dataset'),
        f'It is not known which sample an index of a {name} stands for: call '
        'wrong_samples for the data set inside.')
    return torch.zeros(len(dataset), dtype=torch.bool)
