"""Wrong classes."""

from functools import cached_property
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from ..checks import require
from .noise import Info, Noise


@DATASETS.register_module()
class LabelNoise(Noise):
    """A classification data set, of which a ratio has wrong labels.

    Exactly ``round(ratio * n)`` of the n samples are wrong, whatever their
    class. Which they are, and the class that they get, depends on the seed, n
    and the sample's index alone: not on workers, processes, order or epoch.
    With the same seed, the samples of a lower ratio are among those of a
    higher one, with the same wrong class.

    The wrong class is never the true one. Where a study replaces a ratio r of
    the labels by any class of C, the true one included (symmetric noise),
    ``ratio=r * (C - 1) / C`` is the same on average.

    Each annotation has, besides ``gt_label``, its ``true_label`` and whether
    it is wrong, ``wrong_label``. They reach the data sample if the packing
    transform is told so: ``algorithm_keys`` of mmpretrain's PackInputs.

    Put it around a single data set, with its pipeline, and inside of
    ConcatDataset and the like. Give parts of the same size different seeds,
    or the same indices are wrong.

    Args:
        dataset (BaseDataset | dict): The data set, whose samples have an
            integer ``gt_label``, or its config. A given one is not changed.
        ratio (float): Ratio of the samples that get a wrong label, in [0, 1].
        kind (str): How labels are wrong. 'uniform': one of the other classes,
            each as likely. 'pairwise': class c becomes c + 1, and the last
            one the first. Defaults to 'uniform'.
        seed (int): Seed, at least 0. Defaults to 0.
        num_classes (int, optional): Number of classes. Defaults to None, for
            that of ``classes`` in the data set's meta information.
        lazy_init (bool): Whether annotations are read later, by
            :meth:`full_init`. Defaults to False.

    Raises:
        ValueError: For options out of range, or a data set that it cannot
            change.

    Example:
        >>> from mmengine.dataset import BaseDataset
        >>> from mmengine.registry import DATASETS
        >>> pack = dict(type='PackInputs', algorithm_keys=(
        ...     'true_label', 'wrong_label'))  # ends the pipeline
        >>> class Ten(BaseDataset):
        ...     METAINFO = dict(classes=('cat', 'dog', 'bird'))
        ...     def load_data_list(self):
        ...         return [dict(gt_label=i % 3) for i in range(10)]
        >>> noisy = DATASETS.build(dict(
        ...     type='LabelNoise', dataset=Ten(), ratio=0.3, seed=1))
        >>> sum(noisy[i]['gt_label'] != noisy[i]['true_label']
        ...     for i in range(10))
        3
    """

    kinds = ('uniform', 'pairwise')
    kept = dict(gt_label='true_label')

    def __init__(self,
                 dataset: Any,
                 ratio: float,
                 kind: str = 'uniform',
                 seed: int = 0,
                 num_classes: int | None = None,
                 lazy_init: bool = False) -> None:
        require(
            num_classes is None or (
                isinstance(num_classes, int) and num_classes > 1),
            f'num_classes={num_classes!r} must be an integer of at least 2: '
            'with one class no label can be wrong.')
        self._num_classes = num_classes
        super().__init__(dataset, ratio, kind, seed, lazy_init)

    @cached_property  # the metainfo is copied each time, for every sample
    def num_classes(self) -> int:
        """The number of classes."""
        return self._num_classes or len(self.metainfo.get('classes') or ())

    def _check(self, info: Info) -> None:
        num, label = self.num_classes, info.get('gt_label')
        require(
            num > 1,
            f'The meta information of the {type(self.dataset).__name__} has '
            f'{num} classes: give LabelNoise num_classes, at least 2.')
        require(
            isinstance(label, (int, np.integer)) and 0 <= label < num,
            f'LabelNoise needs gt_label to be one of {num} classes, and '
            f'sample {info["sample_idx"]} of the '
            f'{type(self.dataset).__name__} has gt_label={label!r}: use a '
            'data set with one class for each sample.')

    def _spoil(self, info: Info, rng: np.random.Generator) -> None:
        num = self.num_classes
        step = int(rng.integers(1, num)) if self.kind == 'uniform' else 1
        info['gt_label'] = (int(info['gt_label']) + step) % num
