"""A batch of made-up images for any classification or pose config."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import BaseModel
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import Dataset

from .runner import set_dataloader_defaults

# Of the metainfo of a pose data set, what transforms read.
POSE_KEYS = ('upper_body_ids', 'lower_body_ids', 'flip_pairs', 'dataset_name',
             'flip_indices', 'skeleton_links')


class MadeUpImages(Dataset[Any]):
    """Images of noise, in pixels, through a config's own pipeline.

    They are written into a folder, too, for transforms that load. With the
    metainfo of a pose data set they have joints, otherwise a label.
    """

    def __init__(self, transforms: list[Any], folder: Path, number: int,
                 size: int, seed: int,
                 metainfo: dict[str, Any] | None) -> None:
        self.pipeline = Compose(transforms)
        self.folder, self.number, self.size = folder, number, size
        self.seed, self.metainfo = seed, metainfo

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> Any:
        rng = np.random.default_rng([self.seed, i])
        image = rng.integers(0, 256, (self.size, self.size, 3), 'uint8')
        path = self.folder / f'{i}.bmp'
        cv2.imwrite(str(path), image)
        # Labels 0 and 1 are valid for any number of classes.
        sample = dict(img=image, img_path=str(path), sample_idx=i,
                      gt_label=i % 2)
        if self.metainfo:
            joints = self.metainfo['num_keypoints']
            low, high = self.size / 16, self.size * 15 / 16
            sample.update(
                id=i, img_id=i, category_id=[1],
                keypoints=rng.uniform(
                    low, high, (1, joints, 2)).astype('float32'),
                keypoints_visible=np.ones((1, joints), 'float32'),
                bbox=np.array([[low, low, high, high]], 'float32'),
                bbox_score=np.ones(1, 'float32'),
                **{key: self.metainfo[key] for key in POSE_KEYS})
        return self.pipeline(sample)


def datasets_of(cfg: Any) -> Iterator[Any]:
    """Configs that have a pipeline; repeated or joined ones lie deeper."""
    if isinstance(cfg, dict):
        if cfg.get('pipeline'):
            yield cfg
        for value in cfg.values():
            yield from datasets_of(value)
    elif isinstance(cfg, (list, tuple)):
        for value in cfg:
            yield from datasets_of(value)


def loader_of_one_batch(cfg: Config) -> dict[str, Any]:
    """The config's train_dataloader, with neither workers nor own samplers."""
    loader = dict(cfg.train_dataloader)
    for key in ('batch_sampler', 'persistent_workers', 'prefetch_factor',
                'pin_memory'):
        loader.pop(key, None)
    loader.update(
        num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    return loader


def make_batch(cfg: Config, image_size: int,
               seed: int) -> tuple[dict[str, Any], list[str]]:
    """A batch as the config's train_dataloader would return it.

    Of images that have ``image_size`` on either side before the pipeline, with
    labels (mmpretrain) or joints (mmpose). The lines name transforms that were
    left out because their package is not installed.
    """
    metainfo = None
    data = next(datasets_of(cfg.train_dataloader.dataset), None)
    if data is None or cfg.get('default_scope') not in ('mmpretrain',
                                                        'mmpose'):
        raise SystemExit(
            'Made-up data are images for mmpretrain and mmpose, with a '
            'pipeline in the train_dataloader: use --data real.')
    if cfg.default_scope == 'mmpose':
        from mmpose.datasets.datasets.utils import parse_pose_metainfo
        from mmpose.registry import DATASETS
        dataset: Any = DATASETS.get(data.type)
        metainfo = parse_pose_metainfo(
            data.get('metainfo') or dataset.METAINFO)
    transforms, left_out = [], []
    for transform in data.pipeline:
        try:
            transforms.append(TRANSFORMS.build(transform))
        except (ImportError, KeyError, RuntimeError) as error:
            left_out.append(f'{transform.type} ({error.args[0]})')
    with tempfile.TemporaryDirectory() as folder:
        loader = loader_of_one_batch(cfg)
        loader['dataset'] = MadeUpImages(
            transforms, Path(folder), loader['batch_size'], image_size, seed,
            metainfo)
        try:
            return next(iter(Runner.build_dataloader(loader))), left_out
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SystemExit(
                'Made-up images, each with a label or the joints of a person, '
                f'do not suit this pipeline ({type(error).__name__}: '
                f'{error}): use --data real.') from error


def make_inputs(cfg: Config, model: Any, number: int, image_size: int,
                seed: int) -> Tensor:
    """Made-up images as a model's layers get them, (number, 3, H, W)."""
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.batch_size = number
    set_dataloader_defaults(cfg, ['train_dataloader'], pin_memory=False)
    batch, _ = make_batch(cfg, image_size, seed)
    inputs: Tensor = model.data_preprocessor(batch, False)['inputs']
    return inputs


class Numbers(Dataset[Any]):
    """Samples that cost nothing to load, for :class:`OneWeight`."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(
            inputs=torch.tensor([index / self.size]),
            data_samples=BaseDataElement(metainfo=dict(sample_idx=index)))


class OneWeight(BaseModel):
    """A model that costs nothing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.loss_module = nn.MSELoss()

    def forward(self, inputs: Any, data_samples: Any = None,
                mode: str = 'loss') -> dict[str, Tensor]:
        inputs = torch.stack(inputs)
        return dict(loss=self.loss_module(self.layer(inputs), inputs))
