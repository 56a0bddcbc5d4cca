"""What AUSAMBatchSampler costs an epoch and a batch, at several sizes.

It draws from a table that knows every sample, for a small model that is
trained by what it draws. Timed are the start of an epoch up to its first
batch, of which the shuffling by the sampler underneath is a part, and the
batches after it, without loading and training them. Memory is that of the
batch sampler's tables; the table of the scores is in history_cost.py.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import List

import torch
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import Dataset

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _common import machine  # noqa: E402

from ausam_mm import AUSAM, AUSAMBatchSampler  # noqa: E402

COLUMNS = ('samples', 'start [ms]', 'shuffling alone [ms]', 'batch [us]',
           'slowest [us]', 'tables [MiB]')


class Samples(Dataset):
    """Samples that cost nothing to load."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.ones(1), data_samples=BaseDataElement(
            metainfo=dict(sample_idx=index)))


class Model(BaseModel):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.loss_module = nn.MSELoss()

    def forward(self, inputs: List[Tensor], data_samples: list,
                mode: str) -> dict:
        inputs = torch.stack(inputs)
        return dict(loss=self.loss_module(self.layer(inputs), inputs))


def measure(size: int, batch_size: int, steps: int) -> tuple:
    """One row: times of start, shuffling and batches, memory."""
    hub = MessageHub.get_instance(f'sampler_cost_{size}')
    hub.update_info('max_epochs', 2)
    hub.update_info('epoch', 0)
    dataset, model = Samples(size), Model().train()
    sampler = DefaultSampler(dataset, seed=0)
    batches = AUSAMBatchSampler(sampler, batch_size)
    wrapper = AUSAM(torch.optim.SGD(model.parameters(), lr=0.01))

    def train(indices):
        model.train_step(
            pseudo_collate(dataset.__getitems__(indices)), wrapper)

    train(next(iter(batches)))  # shows the loss's law
    everything = torch.arange(size)
    batches.learn(everything, everything)
    wrapper.history.update(everything, torch.rand(size))

    hub.update_info('epoch', 1)
    sampler.set_epoch(1)
    begin = time.perf_counter()
    next(iter(sampler))
    shuffling = time.perf_counter() - begin
    begin = time.perf_counter()
    drawn = iter(batches)
    indices = next(drawn)
    start = time.perf_counter() - begin
    times = []
    for _ in range(min(steps, len(batches) - 1)):
        train(indices)
        begin = time.perf_counter()
        indices = next(drawn)
        times.append(time.perf_counter() - begin)
    memory = sum(
        value.nbytes for value in vars(batches).values()
        if isinstance(value, Tensor)) / 2**20
    return (f'{size:,}', f'{1000 * start:.1f}', f'{1000 * shuffling:.1f}',
            f'{1e6 * statistics.median(times):.0f}',
            f'{1e6 * max(times):.0f}', f'{memory:.1f}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        '--sizes', nargs='+', type=int, default=[10**5, 10**6, 10**7])
    parser.add_argument('--batch-size', type=int, default=256)
    parser.add_argument('--steps', type=int, default=300)
    args = parser.parse_args()
    table = Table(title=f'AUSAMBatchSampler, batch {args.batch_size}')
    for name in COLUMNS:
        table.add_column(name, justify='right')
    for size in args.sizes:
        table.add_row(*measure(size, args.batch_size, args.steps))
    console = Console(width=100)
    console.print(table)
    console.print(machine())


if __name__ == '__main__':
    main()
