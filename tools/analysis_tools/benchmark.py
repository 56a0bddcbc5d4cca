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
import inspect
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner, set_random_seed
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _benchmark_report import draw, parts_of  # noqa: E402
from _common import (  # noqa: E402
    machine,
    parse_setting,
    set_dataloader_defaults,
)
from _made_up_data import make_batch  # noqa: E402
from _settings import (  # noqa: E402
    COUNTERS,
    Setup,
    build_setup,
    check,
    check_device,
    count,
    is_finite,
    merge,
    positive,
    read_config,
    scope_of,
)
from _tables import markdown_of, table_of  # noqa: E402
from train import swap_wrapper  # noqa: E402

import ausam_mm  # noqa: E402, F401
from ausam_mm.sampling import batch_size, take  # noqa: E402

SETTINGS = ('OptimWrapper', 'SAM', 'AUSAM alpha=0.5', 'AUSAM alpha=0.6',
            'AUSAM alpha=(0.25,0.75)')
LOADED = 4  # batches of real data that are kept in memory
# A forward pass is a third of a pass forwards and backwards.
FORWARD = 1 / 3


@dataclass
class Case:
    """A config with its data.

    Attributes:
        name (str): The config's name.
        path (str): The config as the command line has it.
        cfg (Config): The config, without any options.
        batches (list): Batches in memory.
        loader (DataLoader, optional): The loader of real data.
    """
    name: str
    path: str
    cfg: Config
    batches: list
    loader: Optional[DataLoader] = None


def configure(cfg: Config, setting: str, args: argparse.Namespace) -> Config:
    """A config with a setting's wrapper and options, and without warm-up.

    Args:
        cfg (Config): The config; it stays as it is.
        setting (str): The setting.
        args (Namespace): The parsed arguments.

    Returns:
        Config: The new config.

    Raises:
        SystemExit: If the setting cannot be used.
    """
    parsed = parse_setting(setting)
    if any(option.startswith('train_dataloader.')
           for option in parsed['options']):
        raise SystemExit(f'The setting {setting!r}: all wrappers get the same '
                         'batches, so change them with --cfg-options.')
    cfg = copy.deepcopy(cfg)
    swap_wrapper(cfg, parsed['name'])
    merge(cfg, [*args.cfg_options, *parsed['options']])
    kind = OPTIM_WRAPPERS.get(parsed['name'])
    known = {name for parent in kind.__mro__
             for name in inspect.signature(parent.__init__).parameters}
    for name, iterations in (('warmup', 1), ('ramp', 0)):
        names = {f'{name}_iters', f'{name}_epochs'}
        if names <= known and not names & set(cfg.optim_wrapper):
            cfg.optim_wrapper[f'{name}_iters'] = iterations
    return cfg


def prepare(path: str, args: argparse.Namespace) -> Case:
    """Reads a config, checks all settings on it, and gets its data.

    Args:
        path (str): The config.
        args (Namespace): The parsed arguments.

    Returns:
        Case: The config and its data.

    Raises:
        SystemExit: If a setting or the data cannot be used.
    """
    cfg = read_config(path)
    case = Case(Path(path).stem, path, cfg, [])
    for setting in args.wrappers:
        check(configure(cfg, setting, args), setting)
    with_data = copy.deepcopy(cfg)
    set_dataloader_defaults(
        with_data, ['train_dataloader'], pin_memory=args.device != 'cpu')
    merge(with_data, args.cfg_options)
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
            case.loader = make_loader(with_data, args.seed)
            case.batches.extend(itertools.islice(case.loader, LOADED))
    return case


def make_loader(cfg: Config, seed: int) -> DataLoader:
    """The config's train_dataloader, without an incomplete last batch."""
    cfg.train_dataloader.drop_last = True
    try:
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=seed)
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f'The training data cannot be read ({error}): name their place '
            'with --cfg-options train_dataloader.dataset.data_root=FOLDER, or '
            'leave --data real out.') from error
    if not len(loader):
        raise SystemExit(
            f'The {len(loader.dataset)} training samples are less than a '
            'batch: take a smaller --batch-size.')
    return loader


def endless(loader: DataLoader) -> Iterator[dict]:
    """One epoch after the other."""
    while True:
        yield from loader


def build(case: Case, setting: str, args: argparse.Namespace) -> Setup:
    """A model and its wrapper, the same initial weights for each setting."""
    setup = build_setup(
        configure(case.cfg, setting, args), setting, args.device, args.seed)
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


def interleave(setups: List[Setup], batches: List[Iterator[dict]],
               args: argparse.Namespace, label: str) -> List[List[float]]:
    """Runs the rounds.

    Args:
        setups (list[Setup]): The setups, each of which runs a block in turn.
        batches (list[Iterator]): The batches of each.
        args (Namespace): The parsed arguments.
        label (str): What the progress bar says.

    Returns:
        list[list[float]]: Seconds of each setup's block in each round.
    """
    times = [[] for _ in setups]
    for _ in track(range(args.steps), label, console=Console(stderr=True)):
        for i, setup in enumerate(setups):
            times[i].append(
                run_block(setup, batches[i], args.block, args.device))
    return times


def compare(times: List[List[float]], block: int) -> List[dict]:
    """Median step time and paired ratios to the first, by setup."""
    rows = []
    for seconds in times:
        ratios = [a / b for a, b in zip(seconds, times[0])]
        low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
        rows.append(dict(
            milliseconds=1000 * statistics.median(seconds) / block,
            ratio=median, quartiles=[low, high], ratios=ratios,
            mean=sum(seconds) / sum(times[0]),
            seconds=seconds))
    return rows


def costs(counted: Dict[str, int]) -> dict:
    """Passes and theoretical cost of the steps, a plain step's being 1.

    Args:
        counted (dict[str, int]): What the counters moved by.

    Returns:
        dict: ``passes`` are samples back-propagated a sample loaded; in
        ``cost`` each sample that only went forwards counts a third.
    """
    loaded, passed, scored = (counted[name] for name in COUNTERS)
    if not loaded:
        return dict(passes=1., cost=1.)
    return dict(passes=passed / loaded,
                cost=(passed + FORWARD * scored) / loaded)


def measure(case: Case, args: argparse.Namespace) -> List[dict]:
    """Everything about a config, a row a setting.

    Args:
        case (Case): The config and its data.
        args (Namespace): The parsed arguments.

    Returns:
        list[dict]: The rows, as summary.json has them.
    """
    setups = [build(case, setting, args) for setting in args.wrappers]
    kept = [itertools.cycle(case.batches) for _ in setups]
    for setup, batches in zip(setups, kept):
        if args.warmup:
            run_block(setup, batches, args.warmup, args.device)
    before = [count(setup.wrapper) for setup in setups]
    rows = compare(interleave(setups, kept, args, case.name), args.block)
    # A plain wrapper counts nothing: its samples pass once.
    loaded = batch_size(case.batches[0]) * args.steps * args.block
    for setup, start, row in zip(setups, before, rows):
        end = count(setup.wrapper)
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
        times = interleave(setups, [shared] * len(setups), args,
                           f'{case.name}, with the data loader')
        for row, timed in zip(rows, compare(times, args.block)):
            row['with_loader'] = timed
    for setup, row in zip(setups, rows):
        row['finite'] = is_finite(setup)
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
    setup, data = build(case, args.wrappers[0], args), case.batches[0]
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


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG',
                        help='a file, or package::path')
    parser.add_argument('--wrappers', nargs='+', metavar='SETTING',
                        default=list(SETTINGS),
                        help='ratios are to the first; the default is\n'
                        f'{", ".join(SETTINGS)}')
    parser.add_argument('--steps', type=positive, default=20,
                        help='rounds (20)')
    parser.add_argument(
        '--block', type=positive, default=1,
        help='steps of each wrapper in a round (1): 10 for methods that climb '
        'only\nevery k-th step, and with loader workers more than they load '
        'ahead')
    parser.add_argument('--warmup', type=positive, default=3,
                        help='steps of each wrapper before the rounds (3)')
    parser.add_argument('--batch-size', type=positive,
                        help="the default is the config's")
    parser.add_argument('--device', default='cpu', help='cpu, cuda, ...')
    parser.add_argument('--seed', type=int, default=0,
                        help='of weights, data and draws (0)')
    parser.add_argument('--data', choices=['made-up', 'real'],
                        default='made-up', help="real: the config's own")
    parser.add_argument(
        '--image-size', type=positive, default=256,
        help='sides of made-up images, which the pipeline crops or resizes '
        'to\nthe inputs that the table names (256)')
    parser.add_argument('--no-memory', action='store_true',
                        help='do not measure peak memory')
    parser.add_argument('--out', type=Path, help='folder of the results; the '
                        'default is\nwork_dirs/benchmark/<first config>')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings of all configs, key=value')
    parser.add_argument('--only-memory', action='store_true',
                        help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    check_device(parser, args.device)
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    # All of them before anything runs.
    cases = [prepare(path, args) for path in args.configs]
    if args.only_memory:
        with scope_of(cases[0].cfg):
            print_memory(cases[0], args)
        return
    out = args.out or Path('work_dirs/benchmark') / cases[0].name
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(machine())
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
        console.print(table_of(*parts_of(results[-1])))
        for row in rows:
            if not row['finite']:
                console.print(
                    f'The training of {row["setting"]} overflowed, so that '
                    'its steps may be cheaper than usual: lower the learning '
                    'rate, --cfg-options optim_wrapper.optimizer.lr=1e-3.',
                    markup=False)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'summary.md').write_text('\n'.join(
        [*(markdown_of(*parts_of(result)) for result in results), machine(),
         '']))
    (out / 'summary.json').write_text(json.dumps(dict(
        machine=machine(), command=shlex.join(
            sys.argv if argv is None else ['benchmark.py', *argv]),
        device=args.device, seed=args.seed, data=args.data,
        results=results), indent=2))
    draw(results, out / 'ratios.png')
    console.print(f'Written to {out}: summary.md, summary.json, ratios.png.')


if __name__ == '__main__':
    main()
