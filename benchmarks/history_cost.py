"""What the ADLP table costs a step, at several sizes.

Fills a table with the keys of an epoch, then times looking a batch up and
updating it; prints time, memory and the size and time of a checkpoint.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parents[2]))
from ausam_mm import SampleHistory  # noqa: E402


def measure(size: int, batch_size: int, steps: int) -> tuple:
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
    memory = sum(
        value.nbytes for value in vars(history).values()
        if isinstance(value, torch.Tensor)) / 2**20
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'table.pth'
        begin = time.perf_counter()
        torch.save(history.state_dict(), path)
        save, disk = time.perf_counter() - begin, path.stat().st_size / 2**20
    return (f'{size:,}', f'{1e6 * statistics.median(times):.0f}',
            f'{1e6 * fill:.0f}', f'{1000 * slowest:.0f}', f'{memory:.0f}',
            f'{disk:.0f}', f'{save:.2f}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--sizes', nargs='+', type=int, default=[10**5, 10**6, 10**7])
    parser.add_argument('--batch-size', type=int, default=256)
    parser.add_argument('--steps', type=int, default=500)
    args = parser.parse_args()
    table = Table(title=f'SampleHistory, batch {args.batch_size}')
    for name in ('samples', 'step [us]', 'first-epoch step [us]',
                 'slowest [ms]', 'memory [MiB]', 'on disk [MiB]', 'save [s]'):
        table.add_column(name, justify='right')
    for size in args.sizes:
        table.add_row(*measure(size, args.batch_size, args.steps))
    Console(width=100).print(table)


if __name__ == '__main__':
    main()
