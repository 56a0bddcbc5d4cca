"""Shows what the network is given, with labels or joints drawn.

Images are taken from a config's data loader after its pipeline, before the
normalization: --mode original shows them as they are on disk, concat both side
by side. Works for mmpretrain's and mmpose's data sets. A red frame marks what
LabelNoise or KeypointNoise has given a wrong label.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config, DictAction
from mmengine.registry import DATASETS, VISUALIZERS, init_default_scope
from mmengine.structures import InstanceData
from rich.progress import track

from ausam_mm.tooling.made_up_data import datasets_of
from ausam_mm.tooling.runner import read_config

SMALL = 256  # shorter sides below this are enlarged to it, in pixels
RED = (255, 0, 0)


def is_bgr(cfg: Config) -> bool:
    """Whether the pipeline's images are BGR, as the preprocessor says."""
    model = cfg.get('model') or {}
    preprocessor = {**(cfg.get('data_preprocessor') or {}),
                    **(model.get('data_preprocessor') or {})}
    return bool(preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb'))


def frame(image: np.ndarray) -> np.ndarray:
    """The image with a red frame of 4 pixels over its edges."""
    image = image.copy()
    for edge in (image[:4], image[-4:], image[:, :4], image[:, -4:]):
        edge[:] = RED
    return image


class Browser:
    """Draws the samples of one data set; ``factor`` enlarges them."""

    def __init__(self, cfg: Config, phase: str,
                 factor: float | None = None) -> None:
        loader = cfg.get(f'{phase}_dataloader')
        if not loader:
            raise SystemExit(f'The config has no {phase}_dataloader: choose '
                             'another --phase.')
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        self.poses = cfg.get('default_scope') == 'mmpose'
        self.bgr = is_bgr(cfg)
        self.factor = factor
        dataset = deepcopy(loader.dataset)
        # A repeated or concatenated data set's pipelines lie deeper.
        for part in datasets_of(dataset) if self.poses else ():
            part['pipeline'][-1]['pack_transformed'] = True
        self.dataset = DATASETS.build(dataset)
        self.visualizer = VISUALIZERS.build(dict(
            cfg.visualizer, vis_backends=[dict(type='LocalVisBackend')]
            if cfg.visualizer.get('vis_backends') else None,
            name='browse_dataset'))
        self.visualizer.dataset_meta = self.dataset.metainfo
        if self.poses:
            self.visualizer.set_dataset_meta(self.dataset.metainfo)

    def transformed(self, sample: dict) -> np.ndarray:
        """What the network is given, drawn; RGB, shape (H, W, 3)."""
        image = sample['inputs'].permute(1, 2, 0).numpy().astype('uint8')
        if image.shape[2] == 1:
            image = image.repeat(3, 2)
        elif self.bgr:
            image = image[:, :, ::-1]
        return self._draw(np.ascontiguousarray(image),
                          sample['data_samples'])

    def original(self, index: int, sample: dict) -> np.ndarray:
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

    def _draw(self, image, data_sample, draw_bbox=False):
        factor = self.factor or max(1., SMALL / min(image.shape[:2]))
        image = mmcv.imrescale(image, factor, interpolation='nearest')
        name = Path(data_sample.get('img_path', 'image')).name
        if not self.poses:
            return self.visualizer.visualize_cls(
                image, data_sample, classes=self.dataset.metainfo.get(
                    'classes'), draw_pred=False, name=name)
        data_sample = deepcopy(data_sample)
        instances = data_sample.gt_instances
        for key in ('keypoints', 'transformed_keypoints', 'bboxes'):
            if key in instances:
                instances.set_field(instances[key] * factor, key)
        self.visualizer.add_datasample(
            name, image, data_sample, draw_pred=False, draw_bbox=draw_bbox,
            draw_heatmap=False)
        return self.visualizer.get_image()

    def draw(self, index: int, mode: str) -> np.ndarray:
        """One sample in a mode of the command line; RGB, (H, W, 3)."""
        sample = self.dataset[index]
        images = []
        if mode in ('original', 'concat'):
            images.append(self.original(index, sample))
        if mode in ('transformed', 'concat'):
            images.append(self.transformed(sample))
        height = max(image.shape[0] for image in images)
        if self.dataset.get_data_info(index).get('wrong_label'):
            images = [*map(frame, images)]
        return np.hstack([
            mmcv.imrescale(image, height / image.shape[0])[:height]
            for image in images])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('config', help='the config file')
    parser.add_argument('--output-dir', '-o', type=Path,
                        help='folder to write the images to')
    parser.add_argument('--not-show', action='store_true',
                        help='open no window')
    parser.add_argument('--phase', '-p', default='train',
                        choices=['train', 'val', 'test'])
    parser.add_argument('--show-number', '-n', type=int, default=sys.maxsize,
                        help='how many samples; the default is all')
    parser.add_argument('--show-interval', '-i', type=float, default=2.,
                        help='seconds for which a window shows one')
    parser.add_argument('--mode', '-m', default='transformed',
                        choices=['original', 'transformed', 'concat'])
    parser.add_argument('--rescale-factor', '-r', type=float,
                        help='how much to enlarge; the default enlarges '
                        f'shorter sides below {SMALL} pixels')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        help='settings to override, key=value')
    args = parser.parse_args()
    if args.not_show and args.output_dir is None:
        parser.error('--not-show needs --output-dir: else nothing is seen')
    return args


def main() -> None:
    args = parse_args()
    cfg = read_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    browser = Browser(cfg, args.phase, args.rescale_factor)
    number = min(args.show_number, len(browser.dataset))
    for i in track(range(number), f'{args.phase} samples'):
        image = browser.draw(i, args.mode)
        if args.output_dir is not None:
            # File names may repeat: one image has several persons.
            mmcv.imwrite(image[:, :, ::-1], str(
                args.output_dir / f'{i:06d}.png'))
        if not args.not_show:
            browser.visualizer.show(
                image, win_name=str(i), wait_time=args.show_interval)
    if args.output_dir is not None:
        print(f'{number} images written to {args.output_dir}.')


if __name__ == '__main__':
    main()
