"""Wrong keypoints."""

from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from ..checks import is_number, require
from .noise import Info, Noise


@DATASETS.register_module()
class KeypointNoise(Noise):
    """A pose data set, of which a ratio of the samples has wrong keypoints.

    Exactly ``round(ratio * n)`` of the n samples are chosen. Which they are,
    and the keypoints that they get, depends on the seed, n and the sample's
    index alone: not on workers, processes, order or epoch. With the same
    seed, the samples of a lower ratio are among those of a higher one, with
    the same wrong keypoints.

    A sample is a person, or with ``data_mode='bottomup'`` an image with all
    its persons. Keypoints that are not visible stay where they are, so that a
    chosen sample is right nevertheless if none is visible, or after a swap if
    none has a left and a right.

    Each annotation has, besides ``keypoints`` and ``keypoints_visible``, the
    ``true_keypoints`` and ``true_keypoints_visible``, in pixels of the image
    on disk, which the pipeline does not transform, and whether it was chosen,
    ``wrong_label``. They reach the data sample if the packing transform is
    told so: ``meta_keys`` of mmpose's PackPoseInputs, which replace its
    default ones.

    Put it around a single data set, with its pipeline, and inside of
    CombinedDataset, ConcatDataset and the like. Give parts of the same size
    different seeds, or the same indices are wrong.

    Args:
        dataset (BaseDataset | dict): The data set, or its config. Its samples
            have ``keypoints`` of shape (persons, K, 2),
            ``keypoints_visible``, and ``bbox`` of shape (persons, 4) as left,
            top, right, bottom, all in pixels. A given one is not changed.
        ratio (float): Ratio of the samples that get wrong keypoints, in
            [0, 1].
        kind (str): How keypoints are wrong. 'swap': left and right ones are
            exchanged, by the data set's ``flip_indices``. 'jitter': each one
            is moved by a normal with the standard deviation ``scale`` times
            the longer side of the box. 'uniform': each one is put somewhere
            in the box. Defaults to 'swap'.
        seed (int): Seed, at least 0. Defaults to 0.
        scale (float): How far 'jitter' moves, relative to the longer side of
            the box; the other kinds do not use it. Defaults to 0.1.
        lazy_init (bool): Whether annotations are read later, by
            :meth:`full_init`. Defaults to False.

    Raises:
        ValueError: For options out of range, or a data set that it cannot
            change.

    Example:
        >>> import numpy as np
        >>> from mmengine.dataset import BaseDataset
        >>> from mmengine.registry import DATASETS
        >>> pack = dict(type='PackPoseInputs', meta_keys=(
        ...     'id', 'img_id', 'img_path', 'dataset_name', 'true_keypoints',
        ...     'wrong_label'))  # ends the pipeline
        >>> class Hands(BaseDataset):
        ...     def load_data_list(self):
        ...         return [dict(
        ...             keypoints=np.array([[[10., 40.], [30., 50.]]]),
        ...             keypoints_visible=np.ones((1, 2)), flip_indices=[1, 0],
        ...             bbox=np.array([[0., 0., 64., 64.]]))] * 4
        >>> noisy = DATASETS.build(dict(
        ...     type='KeypointNoise', dataset=Hands(), ratio=1., kind='swap'))
        >>> noisy[0]['keypoints'].tolist()
        [[[30.0, 50.0], [10.0, 40.0]]]
        >>> noisy[0]['true_keypoints'].tolist()
        [[[10.0, 40.0], [30.0, 50.0]]]
    """

    kinds = ('swap', 'jitter', 'uniform')
    kept = dict(keypoints='true_keypoints',
                keypoints_visible='true_keypoints_visible')

    def __init__(self,
                 dataset: Any,
                 ratio: float,
                 kind: str = 'swap',
                 seed: int = 0,
                 scale: float = 0.1,
                 lazy_init: bool = False) -> None:
        require(
            is_number(scale) and 0 < scale < float('inf'),
            f'scale={scale!r} is no part of the box to move keypoints by: set '
            'a number above 0, for example 0.1.')
        self.scale = scale
        super().__init__(dataset, ratio, kind, seed, lazy_init)

    def _check(self, info: Info) -> None:
        name = type(self.dataset).__name__
        sample = f'sample {info["sample_idx"]} of the {name}'
        for key in ('keypoints', 'keypoints_visible', 'bbox'):
            require(
                isinstance(info.get(key), np.ndarray),
                f'KeypointNoise needs keypoints, keypoints_visible and bbox, '
                f'and {sample} has no {key}: use a data set of poses.')
        shape = info['keypoints'].shape
        require(
            len(shape) == 3 and shape[2] == 2,
            f'KeypointNoise needs keypoints of shape (persons, K, 2), and '
            f'{sample} has {shape}: use a data set of 2D poses.')
        if self.kind == 'swap':
            flip = info.get('flip_indices')
            require(
                flip is not None and [*flip] != [*range(shape[1])],
                f'{name} has no flip_indices that tell left keypoints from '
                "right ones: set `swap` in its metainfo, or kind='jitter'.")

    def _spoil(self, info: Info, rng: np.random.Generator) -> None:
        keypoints, visible = info['keypoints'], info['keypoints_visible']
        if self.kind == 'swap':
            flip = [*info['flip_indices']]
            info['keypoints'] = keypoints[:, flip]
            info['keypoints_visible'] = visible[:, flip]
            return
        low, high = np.split(info['bbox'][:, None], 2, axis=-1)
        if self.kind == 'jitter':
            side = (high - low).max(-1, keepdims=True)
            places = keypoints + self.scale * side * rng.standard_normal(
                keypoints.shape)
        else:
            places = rng.uniform(low, high, keypoints.shape)
        # Where nothing is labeled, nothing is wrong.
        seen = visible.reshape(*keypoints.shape[:2], -1)[..., :1] > 0
        info['keypoints'] = np.where(seen, places, keypoints).astype(
            keypoints.dtype)
