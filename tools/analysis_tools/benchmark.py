"""Step time and peak memory of optimizer wrappers, side by side.

Takes any config and trains it with each setting of a wrapper, on the same
batches. Times are interleaved (A B C A B C ...) and compared in pairs: each
wrapper's block of steps against the first wrapper's of the same round. Data
are made up, so that no data set is needed, or the config's own; with these
the steps are timed twice, without the data loader and with it. Hooks and
schedules of the learning rate are left out; the first whole batches of a
method's warm-up are over when timing starts. Peak memory is that of a process
of its own for each wrapper (resident set on CPU, where Linux tells it).

A setting is a wrapper with its options, and options of the config, which have
a dot: 'AUSAM alpha=(0.25,0.75) rho=0.1', 'SAM model.backbone.depth=34'.

It writes a table (summary.md), everything as JSON (summary.json), and the
ratios beside the theoretical costs (ratios.png).
"""

import argparse
import copy
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import set_random_seed
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from ausam_mm.sampling import batch_size, take
from ausam_mm.tooling import settings as tooling
from ausam_mm.tooling.made_up_data import make_batch
from ausam_mm.tooling.plots import plot_ratios
from ausam_mm.tooling.reports import (
    Parts,
    compare_pairs,
    machine,
    print_result,
    write_summary,
)
from ausam_mm.tooling.runner import read_config, set_dataloader_defaults
from ausam_mm.tooling.settings import (
    COUNTERS,
    Setup,
    positive,
    scope_of,
    without_warmup,
)

SETTINGS = ('OptimWrapper', 'SAM', 'AUSAM alpha=0.5', 'AUSAM alpha=0.6',
            'AUSAM alpha=(0.25,0.75)')
LOADED = 4  # batches of real data that are kept in memory
# A forward pass is a third of a pass forwards and backwards.
FORWARD = 1 / 3


@dataclass
class Case:
    """A config without any options, its batches in memory, and its loader."""
    name: str
    path: str
    cfg: Config
    batches: list
    loader: DataLoader | None = None


def configure(cfg: Config, setting: str, args: argparse.Namespace) -> Config:
    """A copy of a config with a setting, and without warm-up."""
    _, options = tooling.parse_setting(setting)
    if any(option.startswith('train_dataloader.') for option in options):
        raise SystemExit(f'The setting {setting!r}: all wrappers get the same '
                         'batches, so change them with --cfg-options.')
    cfg = tooling.configure(cfg, setting, args.cfg_options)
    without_warmup(cfg)
    return cfg


def prepare(path: str, args: argparse.Namespace) -> Case:
    """Reads a config, checks all settings on it, and gets its data."""
    cfg = read_config(path)
    case = Case(Path(path).stem, path, cfg, [])
    for setting in args.settings:
        configure(cfg, setting, args)
    with_data = copy.deepcopy(cfg)
    set_dataloader_defaults(
        with_data, ['train_dataloader'], pin_memory=args.device != 'cpu')
    tooling.merge(with_data, args.cfg_options)
    if args.batch_size:
        with_data.train_dataloader.batch_size = args.batch_size
    set_random_seed(args.seed)
    with scope_of(cfg):
        if args.data == 'made-up':
            batch, left_out = make_batch(
                with_data, args.image_size, args.seed)
            case.batches.append(batch)
            for line in left_out:
                print(f'Left out of the pipeline of {case.name}: {line}',
                      file=sys.stderr)
        else:
            with_data.train_dataloader.drop_last = True
            case.loader = tooling.make_loader(
                with_data, args.seed, ', or leave --data real out')
            case.batches.extend(itertools.islice(case.loader, LOADED))
    return case


def endless(loader: DataLoader) -> Iterator[dict]:
    """One epoch after the other."""
    while True:
        yield from loader


def build(case: Case, setting: str, args: argparse.Namespace) -> Setup:
    """A model and its wrapper, the same initial weights for each setting."""
    setup = tooling.build_setup(
        configure(case.cfg, setting, args), setting, args)
    rounds = 1 if case.loader is None else 2
    setup.wrapper.initialize_count_status(
        setup.model, 0, args.warmup + rounds * args.steps * args.block)
    return setup


def run_block(setup: Setup, batches: Iterator[dict], steps: int,
              device: str) -> float:
    """Seconds of some training steps, with those of getting the batches."""
    start = time.perf_counter()
    for _ in range(steps):
        setup.model.train_step(copy.copy(next(batches)), setup.wrapper)
    if device != 'cpu':
        torch.get_device_module(device).synchronize()
    return time.perf_counter() - start


def interleave(setups: list[Setup], batches: list[Iterator[dict]],
               args: argparse.Namespace, label: str) -> list[dict]:
    """Runs the rounds; step times and paired ratios to the first setting."""
    times = [[] for _ in setups]
    for _ in track(range(args.steps), label, console=Console(stderr=True)):
        for i, setup in enumerate(setups):
            times[i].append(
                run_block(setup, batches[i], args.block, args.device))
    return [dict(
        compare_pairs(seconds, times[0]), seconds=seconds,
        milliseconds=1000 * statistics.median(seconds) / args.block,
        mean=sum(seconds) / sum(times[0])) for seconds in times]


def costs(counted: dict[str, int]) -> dict:
    """Passes and theoretical cost of the steps, a step of SGD being 1.

    ``passes`` are samples back-propagated a sample loaded; in ``cost`` each
    sample that only went forwards counts a third.
    """
    loaded, passed, scored = (counted[name] for name in COUNTERS)
    if not loaded:
        return dict(passes=1., cost=1.)
    return dict(passes=passed / loaded,
                cost=(passed + FORWARD * scored) / loaded)


def measure(case: Case, args: argparse.Namespace) -> list[dict]:
    """The rows of a config, one a setting, as summary.json has them."""
    setups = [build(case, setting, args) for setting in args.settings]
    kept = [itertools.cycle(case.batches) for _ in setups]
    for setup, batches in zip(setups, kept):
        run_block(setup, batches, args.warmup, args.device)
    before = [setup.count() for setup in setups]
    rows = interleave(setups, kept, args, case.name)
    # OptimWrapper counts nothing: its samples pass once.
    loaded = batch_size(case.batches[0]) * args.steps * args.block
    for setup, start, row in zip(setups, before, rows):
        end = setup.count()
        counted = {name: end[name] - start[name] for name in COUNTERS}
        if not counted['samples_loaded']:
            counted.update(samples_loaded=loaded,
                           samples_backpropagated=loaded)
        row.update(counted, **costs(counted), setting=setup.setting,
                   steps=args.steps * args.block)
    if case.loader is not None:
        # One loader for all, as several would work at each other's expense.
        shared = endless(case.loader)
        next(shared)  # starts its workers
        for row, timed in zip(rows, interleave(
                setups, [shared] * len(setups), args,
                f'{case.name}, with the data loader')):
            row['with_loader'] = timed
    for setup, row in zip(setups, rows):
        row['finite'] = setup.is_finite()
    return rows


def peak_memory(case: Case, setting: str, args: argparse.Namespace) -> float:
    """Peak memory in MiB of a process that trains a few steps."""
    command = [
        sys.executable, '-W', 'ignore', __file__, case.path, '--wrappers',
        setting, '--device', args.device, '--seed', str(args.seed), '--data',
        args.data, '--image-size', str(args.image_size), '--only-memory'
    ]
    if args.batch_size:
        command += ['--batch-size', str(args.batch_size)]
    if args.cfg_options:
        command += ['--cfg-options', *args.cfg_options]
    result = subprocess.run(
        command, capture_output=True, text=True,
        # Freed memory goes back at once, so that the peak is the step's.
        env={**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536'})
    if result.returncode:
        raise SystemExit(
            f'The process that measures the memory of {setting!r} failed; '
            f'--no-memory leaves it out:\n{result.stderr[-1000:]}')
    return float(result.stdout.split()[-1])


def print_memory(case: Case, args: argparse.Namespace) -> None:
    """Trains a few steps and prints the most memory that they took."""
    setup, data = build(case, args.settings[0], args), case.batches[0]
    if args.device != 'cpu':
        device = torch.get_device_module(args.device)
        run_block(setup, iter([data]), 1, args.device)
        device.reset_peak_memory_stats()
        run_block(setup, iter([data] * 3), 3, args.device)
        print(device.max_memory_allocated() / 2**20)
        return
    # The first, whole batch of AUSAM's warm-up must not count: it is seen
    # with a batch of two samples.
    small = take(data, torch.arange(2), batch_size(data))
    run_block(setup, iter([small, data, data, data]), 4, 'cpu')
    # Not ru_maxrss: a child starts with its parent's.
    status = Path('/proc/self/status').read_text()
    peak = next(line for line in status.splitlines() if 'VmHWM' in line)
    print(int(peak.split()[1]) / 1024)


def shape_of(batch: dict) -> str:
    """The shape of a batch's first input, such as 3x32x32."""
    inputs = batch.get('inputs') if isinstance(batch, dict) else batch[0]
    shape = getattr(inputs[0], 'shape', ())
    return 'x'.join(map(str, shape)) or 'of several views'


def title_of(result: dict) -> str:
    """What was run, in a line."""
    return (f'{result["config"]}: batch {result["batch_size"]}, inputs '
            f'{result["inputs"]}, {result["rounds"]} rounds of '
            f'{result["block"]}')


def parts_of(result: dict) -> Parts:
    """Title, rows and legend of a config's table."""
    rows = result['rows']
    legend = (f'ratio: to {rows[0]["setting"]} in the same round, median; '
              'passes: samples back-propagated a sample loaded; cost: the '
              'same, where a sample that only went forwards counts a third; '
              'samples: back-propagated in a step; ')
    legend += '*: with the data loader.' if 'with_loader' in rows[0] else \
        'mean: ratio of the times of all rounds.'
    return title_of(result), [cells_of(row) for row in rows], legend


def cells_of(row: dict) -> dict[str, str]:
    """A row of the tables, by the head of its column."""
    def times(timed, mark=''):
        low, high = timed['quartiles']
        return {f'step{mark}\n[ms]': f'{timed["milliseconds"]:.1f}',
                f'ratio{mark}': f'{timed["ratio"]:.2f}',
                f'quartiles{mark}': f'{low:.2f}-{high:.2f}'}

    per_step = row['samples_backpropagated'] / row['steps']
    cells = {'wrapper': row['setting'], **times(row),
             'passes': f'{row["passes"]:.2f}', 'cost': f'{row["cost"]:.2f}',
             'samples': f'{per_step:.1f}'}
    if 'with_loader' in row:
        cells.update(times(row['with_loader'], '*'))
    else:  # both would leave the settings no room
        cells['mean'] = f'{row["mean"]:.2f}'
    if 'peak_mib' in row:
        cells['peak\n[MiB]'] = f'{row["peak_mib"]:.0f}'
    return cells


def draw(axis, rows: list[dict]) -> None:
    """Quartiles, medians and ranges of a config's ratios."""
    timed = {'': (rows, 'tab:blue')}
    if 'with_loader' in rows[0]:
        timed[' with loader'] = (
            [row['with_loader'] for row in rows], 'tab:orange')
    width = 0.6 / len(timed)
    for i, (label, (parts, color)) in enumerate(timed.items()):
        y = np.arange(len(rows)) + (i - (len(timed) - 1) / 2) * width
        low, high = np.array([part['quartiles'] for part in parts]).T
        axis.barh(y, high - low, 0.8 * width, low, color=color, alpha=0.5,
                  edgecolor='black', label=f'quartiles{label}')
        axis.hlines(y, *np.array([part['range'] for part in parts]).T,
                    color='black', linewidth=1)
        axis.plot([part['ratio'] for part in parts], y, 'k.',
                  label=None if i else 'median')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tooling.settings_parser(__doc__, '--wrappers', SETTINGS)
    parser.add_argument('--steps', type=positive, default=20,
                        help='rounds (20)')
    parser.add_argument(
        '--block', type=positive, default=1,
        help='steps of each wrapper in a round (1): 10 for methods that '
        'perturb only\nevery k-th step, and with loader workers more than '
        'they load ahead')
    parser.add_argument('--warmup', type=positive, default=3,
                        help='steps of each wrapper before the rounds (3)')
    parser.add_argument('--batch-size', type=positive,
                        help="the default is the config's")
    parser.add_argument('--data', choices=['made-up', 'real'],
                        default='made-up', help="real: the config's own")
    parser.add_argument(
        '--image-size', type=positive, default=256,
        help='sides of made-up images, which the pipeline crops or resizes '
        'to\nthe inputs that the table names (256)')
    parser.add_argument('--no-memory', action='store_true',
                        help='do not measure peak memory')
    parser.add_argument('--only-memory', action='store_true',
                        help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    # All of them before anything runs.
    cases = [prepare(path, args) for path in args.configs]
    if args.only_memory:
        with scope_of(cases[0].cfg):
            print_memory(cases[0], args)
        return
    out = args.out or Path('work_dirs/benchmark') / cases[0].name
    print(machine())
    results = []
    for case in cases:
        with scope_of(case.cfg):
            rows = measure(case, args)
        for row in rows:
            if not args.no_memory:
                row['peak_mib'] = peak_memory(case, row['setting'], args)
        results.append(dict(
            config=case.name, path=case.path, rounds=args.steps,
            block=args.block, inputs=shape_of(case.batches[0]),
            batch_size=batch_size(case.batches[0]), rows=rows))
        print_result(results[-1], parts_of)
    write_summary(out, [*map(parts_of, results)], argv or sys.argv,
                  device=args.device, seed=args.seed, data=args.data,
                  results=results)
    # Costs are in steps of SGD, ratios are to the first wrapper.
    plot_ratios(
        results, out / 'ratios.png', 'step time', title_of, draw,
        lambda rows: [row['cost'] / rows[0]['cost'] for row in rows],
        'theoretical cost')
    print(f'Written to {out}: summary.md, summary.json, ratios.png.')


if __name__ == '__main__':
    main()
