"""What the ADLP table costs a step, at several sizes.

Fills a table with the keys of an epoch, then times looking a batch up and
updating it; prints time, memory and the size and time of a checkpoint.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ausam_mm import SampleHistory
from ausam_mm.tooling.reports import print_table


def memory_of(history: SampleHistory) -> int:
    """Bytes of a table."""
    return sum(value.nbytes for value in vars(history).values()
               if isinstance(value, np.ndarray))


def measure(size: int, batch_size: int, steps: int) -> dict[str, str]:
    """One row: fill, lookup and update times, memory, checkpoint."""
    history = SampleHistory()
    generator = torch.Generator().manual_seed(0)
    keys = torch.randperm(size, generator=generator) * 7919
    start, slowest = time.perf_counter(), 0.
    for part in keys.split(batch_size):
        begin = time.perf_counter()
        history.update(part, torch.ones(len(part)))
        slowest = max(slowest, time.perf_counter() - begin)
    fill = (time.perf_counter() - start) / (size / batch_size)
    times = []
    for _ in range(steps):
        batch = keys[torch.randint(size, (batch_size, ), generator=generator)]
        begin = time.perf_counter()
        history.means(batch)
        history.update(batch, torch.ones(batch_size))
        times.append(time.perf_counter() - begin)
    memory = memory_of(history) / 2**20
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'table.pth'
        begin = time.perf_counter()
        torch.save(history.state_dict(), path)
        save, disk = time.perf_counter() - begin, path.stat().st_size / 2**20
    return {'samples': f'{size:,}',
            'step [us]': f'{1e6 * statistics.median(times):.0f}',
            'first-epoch\nstep [us]': f'{1e6 * fill:.0f}',
            'slowest [ms]': f'{1000 * slowest:.0f}',
            'memory [MiB]': f'{memory:.0f}', 'on disk [MiB]': f'{disk:.0f}',
            'save [s]': f'{save:.2f}'}


def run(doc: str | None, name: str, steps: int,
        measure: Callable[[int, int, int], dict[str, str]]) -> None:
    """The command of a benchmark that measures at several sizes."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        '--sizes', nargs='+', type=int, default=[10**5, 10**6, 10**7])
    parser.add_argument('--batch-size', type=int, default=256)
    parser.add_argument('--steps', type=int, default=steps)
    args = parser.parse_args()
    print_table(f'{name}, batch {args.batch_size}', [
        measure(size, args.batch_size, args.steps) for size in args.sizes])


if __name__ == '__main__':
    run(__doc__, 'SampleHistory', 500, measure)
