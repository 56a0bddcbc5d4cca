"""How many images of CIFAR a second the pipeline yields, part by part.

Made-up images of CIFAR's size go through the pipelines of a config that
augments image by image in the loader and of one that augments the batch at
once, on the model's device. Loading is that of one process, with and without
the way from a worker; more workers load more. Each part is timed alone, and
the best of several rounds counts.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.registry import MODELS, init_default_scope
from torch.utils.data import DataLoader, Dataset

from ausam_mm.tooling import settings as tooling
from ausam_mm.tooling.reports import console, markdown_of, processor

CONFIGS = Path(__file__).parents[1] / 'configs' / 'classification' / 'cifar10'
SETTINGS = {
    'image by image': 'resnet18_b256_cifar10.py',
    'the batch at once': 'resnet18_b256_cifar10-batch-augment.py',
}


class MadeUp(Dataset):
    """Random images of CIFAR's size after a pipeline."""

    def __init__(self, pipeline: list[dict[str, Any]], size: int) -> None:
        self.pipeline, self.size = Compose(pipeline), size
        self.image = np.random.default_rng(0).integers(
            0, 255, (32, 32, 3), 'uint8')

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return self.pipeline(dict(
            img=self.image, gt_label=index % 10, sample_idx=index))


def seconds(run: Callable[[], Any], rounds: int, device: str) -> float:
    """Those of the best round, after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        run()
        if device == 'cuda':
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def measure(name: str, batch_size: int, rounds: int,
            device: str) -> dict[str, str]:
    """A row: images a second of each part of a config's pipeline."""
    cfg = Config.fromfile(CONFIGS / SETTINGS[name])
    pipeline = cfg.train_dataloader.dataset.pipeline
    images = MadeUp(pipeline, batch_size)
    batch = default_collate([images[i] for i in range(batch_size)])
    # Enough batches for the worker's start not to count.
    many = 40 * batch_size
    loader = DataLoader(
        MadeUp(pipeline, many), batch_size, num_workers=1,
        collate_fn=default_collate, persistent_workers=True)
    preprocessor = MODELS.build(
        {'type': 'ClsDataPreprocessor', **cfg.data_preprocessor}).to(device)
    parts: dict[str, tuple[int, Callable[[], Any]]] = {
        'load': (batch_size, lambda: default_collate(
            [images[i] for i in range(batch_size)])),
        'from one worker': (many, lambda: [None for _ in loader]),
        'preprocess': (batch_size, lambda: preprocessor(batch, True)),
    }
    return {'augments': name, **{
        f'{part} [images/s]': f'{num / seconds(run, rounds, device):,.0f}'
        for part, (num, run) in parts.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--batch-size', type=tooling.positive, default=256)
    parser.add_argument('--rounds', type=tooling.positive, default=10)
    parser.add_argument('--device', type=tooling.usable, default='cuda' if
                        torch.cuda.is_available() else 'cpu',
                        help='where the model would be')
    args = parser.parse_args()
    init_default_scope('mmpretrain')
    rows = [measure(name, args.batch_size, args.rounds, args.device)
            for name in SETTINGS]
    where = processor() if args.device == 'cpu' else \
        f'{torch.cuda.get_device_name()} and {processor()}'
    command = ['python', '-m', 'benchmarks.image_rate', *sys.argv[1:]]
    console().print(markdown_of(
        f'{where}, {torch.get_num_threads()} threads, torch '
        f'{torch.__version__}: `{shlex.join(command)}`', rows), markup=False)


if __name__ == '__main__':
    main()
