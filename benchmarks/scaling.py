"""What AUSAM takes where a data set or a cluster is larger than any tried.

Measures at three sizes of a table and three numbers of gloo processes, fits
lines, and writes what they come to for larger ones into docs/scaling.md. Times
are the processor's, the least of several rounds, so that other work on the
machine counts little; bytes are counted.

The processes train one weight. What AUSAM does with the losses of a step is
timed: the exchange of scores, the table, and with AUSAMBatchSampler the
pending selections, as many batches ahead as the workers of a data loader take.
For more processes one does what each of so many would, without a network: the
others' scores are made up.
"""

import argparse
import json
import math
import shlex
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.logging import MessageHub
from rich.console import Console
from rich.progress import track
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import BatchSampler

from ausam_mm import AUSAM, AUSAMBatchSampler, SampleHistory
from ausam_mm.engine import Step
from ausam_mm.sampling.batch_sampler import load_each
from ausam_mm.tooling.made_up_data import Numbers, OneWeight
from ausam_mm.tooling.reports import (
    Parts,
    Row,
    console,
    machine,
    markdown_of,
    table_of,
    write_page,
)
from ausam_mm.tooling.runner import leave_processes
from benchmarks.history_cost import memory_of

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'scaling.md'
# Numbers of samples to come to, and what has about so many.
LARGE = {150_000: 'people in COCO', 14_200_000: 'ImageNet-21k',
         100_000_000: 'more than either'}
# Keys that all processes look up and update in a step.
KEYS_A_STEP = (256, 8192)
# Batches that 8 workers select ahead of the one that is trained.
AHEAD = 16


def least(run: Callable[[], Any], rounds: int) -> float:
    """The processor's seconds of a call, the least of several rounds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


# -- by the number of samples --


def measure_size(size: int, rounds: int) -> dict[str, float]:
    """What a table and an epoch's start take at a number of samples."""
    history = SampleHistory()
    generator = torch.Generator().manual_seed(0)
    keys = torch.randperm(size, generator=generator) * 7919
    for part in keys.split(8192):
        history.update(part, torch.ones(len(part)))
    result: dict[str, float] = dict(table=memory_of(history))
    for number in KEYS_A_STEP:
        batches = [keys[torch.randint(size, (number, ), generator=generator)]
                   for _ in range(max(4, 20_000 // number))]

        def steps(batches: list[torch.Tensor] = batches) -> None:
            for batch in batches:
                history.means(batch)
                history.update(batch, torch.ones(len(batch)))

        result[f'key, {number}'] = least(steps, rounds) / number / len(batches)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'table.pth'
        result['save'] = least(
            lambda: torch.save(history.state_dict(), path), rounds)
        result['disk'] = path.stat().st_size
        result['load'] = least(lambda: SampleHistory().load_state_dict(
            torch.load(path)), rounds)
    sampler = DefaultSampler(Numbers(size), seed=0)
    result['shuffle'] = least(lambda: next(iter(sampler)), rounds)
    result['order'] = sys.getsizeof([*range(size)]) + size * sys.getsizeof(
        2**16)
    result['keys'] = AUSAMBatchSampler(sampler, 64).keys.nbytes
    return result


# -- by the number of processes --


@contextmanager
def gathering(processes: int) -> Iterator[list[int]]:
    """Lists the bytes of each gathering inside, and stands in for others.

    Those of PyTorch's backend 'fake' are not there: they have what this one
    has, with keys and ranks of their own.
    """
    original, found = dist.all_gather, []

    def gather(parts: list[torch.Tensor], data: torch.Tensor) -> None:
        found.append(processes * data.nbytes)
        if dist.get_backend() != 'fake':
            original(parts, data)
            return
        for rank, part in enumerate(parts):
            part.copy_(data)
            if data.dim() > 1:  # the first column has keys, or ranks
                part[:, 0] += rank * (1 if data.is_floating_point() else 10**9)

    dist.all_gather = gather
    try:
        yield found
    finally:
        dist.all_gather = original


def batches_ahead(batches: Iterable[list[int]],
                  ahead: int) -> Iterator[list[int]]:
    """Batches that were selected some before, as for a loader's workers."""
    waiting: deque[list[int]] = deque()
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def measure_way(in_loader: bool, processes: int,
                batch: int) -> dict[str, float]:
    """What AUSAM's part of a step takes in one of so many processes."""
    steps = AHEAD + 8  # of an epoch; the first one gives all samples scores
    hub = MessageHub.get_instance(f'scaling {in_loader} {processes}')
    hub.update_info('max_epochs', 2)
    dataset = Numbers(steps * batch * processes)
    sampler: Any = DefaultSampler(dataset, seed=0)
    model = OneWeight().train()
    wrapper = AUSAM(torch.optim.SGD(model.parameters(), lr=0.01),
                    warmup_iters=steps, ramp_iters=0)
    batches = AUSAMBatchSampler(sampler, batch) if in_loader else BatchSampler(
        sampler, batch, drop_last=False)
    load = getattr(dataset, '__getitems__', partial(load_each, dataset))
    times: list[float] = []
    received: list[tuple[int, int]] = []
    observe = wrapper.observe

    def timed(step: Step) -> None:
        begin = time.process_time()
        observe(step)
        times.append(time.process_time() - begin)

    wrapper.observe = timed  # type: ignore[method-assign]
    for epoch in range(2):
        hub.update_info('epoch', epoch)
        for indices in batches_ahead(batches, AHEAD if in_loader else 0):
            with gathering(processes) as found:
                model.train_step(pseudo_collate(load(indices)), wrapper)
            received.append((len(found), sum(found)))
    # As many batches are selected in a step as are trained, neither more, as
    # when an epoch starts, nor less, as when it ends.
    usual = slice(steps + 1, 2 * steps - AHEAD)
    (collectives, total), = set(received[usual])
    return dict(collectives=collectives, bytes=total,
                seconds=min(times[usual]))


def work(rank: int, processes: int, batch: int, folder: str,
         backend: str = 'gloo') -> None:
    """One process: writes what it takes to select in the step and before."""
    torch.set_num_threads(1)
    store = FakeStore() if backend == 'fake' else dist.FileStore(
        f'{folder}/store', processes)
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=processes)
    found = [measure_way(in_loader, processes, batch)
             for in_loader in (False, True)]
    if rank == 0:
        Path(folder, 'result.json').write_text(json.dumps(found))
    leave_processes()


def measure_processes(processes: int, batch: int,
                      backend: str) -> list[dict[str, float]]:
    """What a process takes in a step that selects, and in the loader."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (processes, batch, folder, backend),
                 processes if backend == 'gloo' else 1)
        found: list[dict[str, float]] = json.loads(
            Path(folder, 'result.json').read_text())
    return found


# -- what it comes to --


def at(size: int, name: str, sizes: dict[int, dict[str, float]]) -> float:
    """What was measured at a size, or what that comes to."""
    if size in sizes:
        return sizes[size][name]
    if name == 'table':  # its rows are a power of two
        largest = max(sizes)
        return sizes[largest]['table'] * 2.**(
            size.bit_length() - largest.bit_length())
    x, y = [*sizes], [found[name] for found in sizes.values()]
    if name.startswith('key,'):  # with the logarithm, as caches miss
        x, size = np.log(x).tolist(), math.log(size)  # type: ignore
    if size <= max(x):  # between two measured ones
        return float(np.interp(size, x, y))
    slope, start = np.polyfit(x, y, 1)
    return float(start + slope * size)


def size_rows(sizes: dict[int, dict[str, float]],
              columns: dict[str, tuple[str, float, str]]) -> list[Row]:
    """What numbers of samples take: those measured, and large ones.

    Args:
        sizes (dict[int, dict[str, float]]): What was measured.
        columns (dict[str, tuple[str, float, str]]): By the head of a column
            what is in it, its unit and its format.
    """
    rows = []
    for size in (*sizes, *LARGE):
        row = {'samples': f'{size:,}', '': LARGE.get(size, 'measured')}
        for head, (name, unit, form) in columns.items():
            row[head] = format(at(size, name, sizes) / unit, form)
        rows.append(row)
    return rows


def process_row(processes: int, ways: list[dict[str, float]],
                backend: str) -> Row:
    """What a process of so many takes."""
    row = {'processes': f'{processes:,}', '': backend}
    for name, way in zip(('step', 'loader'), ways):
        row[f'{name}:\ngathers'] = f'{way["collectives"]}'
        row[f'{name}:\n[KiB]'] = f'{way["bytes"] / 1024:,.1f}'
        row[f'{name}:\n[ms]'] = f'{1000 * way["seconds"]:.2f}'
    return row


MEMORY = {f'{head}\n[MiB]': (name, 2**20, ',.1f') for head, name in (
    ('table', 'table'), ('keys', 'keys'), ('order', 'order'),
    ('checkpoint:\ntable', 'disk'))}
SECONDS = {
    **{f'{name}\n[s]': (name, 1., '.3f')
       for name in ('save', 'load', 'shuffle')},
    **{f'{number:,} keys\n[ms]': (f'key, {number}', 1e-3 / number, '.2f')
       for number in KEYS_A_STEP}}
IN_MEMORY = (
    'In each process. table: of the scores; keys: of AUSAMBatchSampler, also '
    "in the checkpoint; order: the list of MMEngine's DefaultSampler, which "
    'any wrapper has. Beyond what was measured, values are on the line that '
    'fits it best; the rows of a table are a power of two.')
IN_SECONDS = (
    'save, load: the table, in a checkpoint; shuffle: the start of an epoch '
    "by MMEngine's DefaultSampler, with any wrapper; keys: to look so many up "
    'and update them, which grows with the logarithm.')
PROCESSES = (
    'A step that selects where it is trained, and one whose samples were '
    'selected in the loader. gathers: all_gather of all processes; KiB: what '
    'a process receives of all in them; ms: the time of the processor in a '
    'process for them, the table and the pending selections. gloo: real '
    'processes, and the time of the network is in it; alone: one process that '
    'does the work of each, without a network.')


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', nargs='+', type=int,
                        default=[10**5, 10**6, 10**7])
    parser.add_argument('--processes', nargs='*', type=int, default=[2, 4, 8],
                        help='real ones, over gloo')
    parser.add_argument('--alone', nargs='*', type=int,
                        default=[8, 64, 256, 1024],
                        help='numbers of processes of which one is there')
    parser.add_argument('--batch-size', type=int, default=64,
                        help='of each process (64)')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--page', type=Path, default=PAGE)
    args = parser.parse_args(argv)
    progress = Console(stderr=True)
    sizes = {size: measure_size(size, args.rounds) for size in track(
        args.sizes, 'sizes', console=progress)}
    rows = [process_row(number, measure_processes(
        number, args.batch_size, backend), name)
        for number, backend, name in track(
            [*((number, 'gloo', 'gloo') for number in args.processes),
             *((number, 'fake', 'alone') for number in args.alone)],
            'processes', console=progress)]
    tables: list[Parts] = [
        ('Memory by the number of samples', size_rows(sizes, MEMORY),
         IN_MEMORY),
        ('Time of the processor by the number of samples',
         size_rows(sizes, SECONDS), IN_SECONDS),
        (f'By the number of processes, batch {args.batch_size} in each, '
         'alpha=0.5', rows, PROCESSES)]
    command = shlex.join(['python', '-m', 'benchmarks.scaling',
                          *(sys.argv[1:] if argv is None else argv)])
    for parts in tables:
        console().print(table_of(*parts))
    write_page(args.page, '\n'.join(
        [f'`{command}` on {machine()}:\n',
         *(markdown_of(*parts) for parts in tables), '']))
    print(f'Written into {args.page}.')


if __name__ == '__main__':
    main()
