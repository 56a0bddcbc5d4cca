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
from mmengine.registry import DATASETS, init_default_scope
from rich.progress import track

from ausam_mm.tooling.drawing import SMALL, Drawer, frame, keep_transformed
from ausam_mm.tooling.runner import read_config


class Browser(Drawer):
    """Draws the samples of one data set; ``factor`` enlarges them."""

    def __init__(self, cfg: Config, phase: str,
                 factor: float | None = None) -> None:
        loader = cfg.get(f'{phase}_dataloader')
        if not loader:
            raise SystemExit(f'The config has no {phase}_dataloader: choose '
                             'another --phase.')
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        dataset = deepcopy(loader.dataset)
        if cfg.get('default_scope') == 'mmpose':
            keep_transformed(dataset)
        super().__init__(cfg, DATASETS.build(dataset), factor)

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
