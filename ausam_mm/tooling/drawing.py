"""Samples as images, with labels or joints, as the libraries draw them."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from .made_up_data import datasets_of

Image = NDArray[np.uint8]

SMALL = 256  # shorter sides below this are enlarged to it, in pixels
RED = (255, 0, 0)


def is_bgr(cfg: Config) -> bool:
    """Whether the pipeline's images are BGR, as the preprocessor says."""
    model = cfg.get('model') or {}
    preprocessor = {**(cfg.get('data_preprocessor') or {}),
                    **(model.get('data_preprocessor') or {})}
    preprocessor = preprocessor.get('preprocessor') or preprocessor
    return bool(preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb'))


def frame(image: Image) -> Image:
    """The image with a red frame of 4 pixels over its edges."""
    image = image.copy()
    for edge in (image[:4], image[-4:], image[:, :4], image[:, -4:]):
        edge[:] = RED
    return image


def packs(part: Any) -> bool:
    """Whether the pipeline in a config returns what a model gets.

    Those of the parts of a CombinedDataset convert keypoints only.
    """
    pipeline = part.get('pipeline')
    return bool(pipeline) and str(
        pipeline[-1]['type']).rpartition('.')[2].startswith('Pack')


def keep_transformed(dataset: Any) -> None:
    """Lets a pose data set's config return the joints in its images."""
    # A repeated or concatenated data set's pipelines lie deeper.
    for part in datasets_of(dataset):
        if packs(part):
            part['pipeline'][-1]['pack_transformed'] = True


class Drawer:
    """Draws samples of a data set of mmpretrain or mmpose.

    Args:
        cfg (Config): The config.
        dataset (Dataset): Its data set, for poses with ``keep_transformed``.
        factor (float, optional): What enlarges the images. Defaults to None,
            for shorter sides of 256 pixels at least.
    """

    def __init__(self, cfg: Config, dataset: Any,
                 factor: float | None = None) -> None:
        self.poses = cfg.get('default_scope') == 'mmpose'
        self.bgr = is_bgr(cfg)
        self.factor = factor
        self.dataset = dataset
        settings = dict(cfg.get('visualizer') or dict(type='Visualizer'))
        if settings.get('vis_backends'):
            settings['vis_backends'] = [dict(type='LocalVisBackend')]
        self.visualizer: Any = VISUALIZERS.build(dict(
            settings, name=f'drawer_{id(self)}'))
        self.visualizer.dataset_meta = dataset.metainfo
        if self.poses:
            self.visualizer.set_dataset_meta(dataset.metainfo)

    def plain(self, sample: Any) -> Image:
        """What the network is given; RGB, shape (H, W, 3)."""
        image: Image = sample['inputs'].permute(1, 2, 0).numpy().astype(
            'uint8')
        if image.shape[2] == 1:
            image = image.repeat(3, 2)
        elif self.bgr:
            image = image[:, :, ::-1]
        return np.ascontiguousarray(image)

    def enlarged(self, image: Image) -> Image:
        """The image, in the size in which it is drawn."""
        scaled: Any = mmcv.imrescale(
            image, self._factor_of(image), interpolation='nearest')
        return np.asarray(scaled)

    def transformed(self, sample: Any) -> Image:
        """The same with its label or joints drawn."""
        return self._draw(self.plain(sample), sample['data_samples'])

    def original(self, index: int, sample: Any) -> Image:
        """The image on disk, drawn; RGB, shape (H, W, 3)."""
        info = self.dataset.get_data_info(index)
        if 'img' in info:  # a data set that keeps its images in memory
            image = info['img'][:, :, ::-1] if self.bgr else info['img']
        else:
            image = mmcv.imread(info['img_path'], channel_order='rgb')
        data_sample = sample['data_samples'].clone()
        if self.poses:
            seen = info['keypoints_visible']
            data_sample.gt_instances = InstanceData(
                keypoints=info['keypoints'], bboxes=info['bbox'],
                keypoints_visible=seen if seen.ndim == 2 else seen[..., 0])
        return self._draw(np.ascontiguousarray(image), data_sample,
                          draw_bbox=True)

    def _draw(self, image: Image, data_sample: Any,
              draw_bbox: bool = False) -> Image:
        factor, image = self._factor_of(image), self.enlarged(image)
        name = Path(data_sample.get('img_path', 'image')).name
        if not self.poses:
            drawn: Image = self.visualizer.visualize_cls(
                image, data_sample, classes=self.dataset.metainfo.get(
                    'classes'), draw_pred=False, name=name)
            return drawn
        data_sample = deepcopy(data_sample)
        instances = data_sample.gt_instances
        for key in ('keypoints', 'transformed_keypoints', 'bboxes'):
            if key in instances:
                instances.set_field(instances[key] * factor, key)
        self.visualizer.add_datasample(
            name, image, data_sample, draw_pred=False, draw_bbox=draw_bbox,
            draw_heatmap=False)
        return np.asarray(self.visualizer.get_image())

    def _factor_of(self, image: Image) -> float:
        return self.factor or max(1., SMALL / min(image.shape[:2]))
