"""What AUSAMBatchSampler costs an epoch and a batch, at several sizes.

It samples from a table that knows every sample, for a small model that is
trained by what it selects. Timed are the start of an epoch up to its first
batch, of which the shuffling by the sampler underneath is a part, and the
batches after it, without loading and training them. Memory is that of the
batch sampler's tables; the table of the scores is in history_cost.py.
"""

import statistics
import time

import torch
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.logging import MessageHub
from torch import Tensor

from ausam_mm import AUSAM, AUSAMBatchSampler
from ausam_mm.tooling.made_up_data import Numbers, OneWeight
from benchmarks.history_cost import run


def measure(size: int, batch_size: int, steps: int) -> dict[str, str]:
    """One row: times of start, shuffling and batches, memory."""
    hub = MessageHub.get_instance(f'sampler_cost_{size}')
    hub.update_info('max_epochs', 2)
    hub.update_info('epoch', 0)
    dataset, model = Numbers(size), OneWeight().train()
    sampler = DefaultSampler(dataset, seed=0)
    batches = AUSAMBatchSampler(sampler, batch_size)
    wrapper = AUSAM(torch.optim.SGD(model.parameters(), lr=0.01))

    def train(indices):
        model.train_step(
            pseudo_collate(dataset.__getitems__(indices)), wrapper)

    train(next(iter(batches)))  # shows the loss's reduction
    everything = torch.arange(size)
    batches.learn(everything, everything)
    wrapper.history.update(everything, torch.rand(size))

    hub.update_info('epoch', 1)
    sampler.set_epoch(1)
    begin = time.perf_counter()
    next(iter(sampler))
    shuffling = time.perf_counter() - begin
    begin = time.perf_counter()
    selected = iter(batches)
    indices = next(selected)
    start = time.perf_counter() - begin
    times = []
    for _ in range(min(steps, len(batches) - 1)):
        train(indices)
        begin = time.perf_counter()
        indices = next(selected)
        times.append(time.perf_counter() - begin)
    memory = sum(
        value.nbytes for value in vars(batches).values()
        if isinstance(value, Tensor)) / 2**20
    return {'samples': f'{size:,}', 'start [ms]': f'{1000 * start:.1f}',
            'shuffling\nalone [ms]': f'{1000 * shuffling:.1f}',
            'batch [us]': f'{1e6 * statistics.median(times):.0f}',
            'slowest [us]': f'{1e6 * max(times):.0f}',
            'tables [MiB]': f'{memory:.1f}'}


if __name__ == '__main__':
    run(__doc__, 'AUSAMBatchSampler', 300, measure)
