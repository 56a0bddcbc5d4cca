"""Time of whole epochs of optimizer wrappers, the data loader included.

Trains any config on its own data with each setting, interleaved: an epoch of
A, of B, of C, then again A, B, C. Each setting has its own model, wrapper and
data loader, built as MMEngine's Runner builds them, and each epoch is compared
with that of the first setting in the same round. Before the rounds there is an
epoch that does not count: it starts the workers, and is AUSAM's warm-up, which
uses everything. After them each data loader runs an epoch alone, without
training. Where that takes as long as an epoch, data are the limit.

Samples are counted where they are loaded, in the workers, and where they are
trained. Hooks and schedules are left out.

A setting is a wrapper with its options, and options of the config, which have
a dot: 'AUSAM alpha=0.5', 'SAM train_dataloader.num_workers=2'.

It writes a table (summary.md), everything as JSON (summary.json), and the
ratios of all rounds (epoch_time.png).
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.logging import MessageHub
from mmengine.utils.dl_utils import set_multi_processing
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import DataLoader, Dataset

from ausam_mm.sampling import batch_size
from ausam_mm.tooling import settings as tooling
from ausam_mm.tooling.plots import plot_ratios
from ausam_mm.tooling.reports import (
    Parts,
    compare_pairs,
    machine,
    print_result,
    write_summary,
)
from ausam_mm.tooling.runner import read_config, set_dataloader_defaults
from ausam_mm.tooling.settings import Setup, positive, scope_of

SETTINGS = (
    'OptimWrapper', 'SAM', 'AUSAM alpha=0.5',
    'AUSAM alpha=0.5 train_dataloader.batch_sampler.type=AUSAMBatchSampler')


@dataclass
class Arm:
    """A setting in training."""
    setup: Setup
    loader: DataLoader
    loads: Any  # how many samples were loaded, a Synchronized
    hub: MessageHub
    epoch: int = 0  # the next one
    trained: int = 0  # samples that the steps were given


def configure(cfg: Config, setting: str, args: argparse.Namespace) -> Config:
    """A copy of a config with a setting, as train.py has it."""
    cfg = tooling.configure(cfg, setting, args.cfg_options)
    if not cfg.train_dataloader.get('num_workers'):
        cfg.train_dataloader.persistent_workers = False
    return cfg


def count_loads(dataset: Dataset) -> Any:
    """Counts the samples that are loaded, also by processes forked later.

    The data set's class becomes a subclass of it, so that samplers see what
    they would see otherwise. The number is the ``value`` of what it returns.
    """
    loads = multiprocessing.Value('q', 0)

    class Counted(type(dataset)):

        def __getitem__(self, index):
            with loads.get_lock():
                loads.value += 1
            return super().__getitem__(index)

    dataset.__class__ = Counted
    return loads


def make_current(hub: MessageHub) -> None:
    """Makes a message hub MMEngine's current one, which is the last."""
    MessageHub._instance_dict.move_to_end(hub.instance_name)


def build(cfg: Config, setting: str, args: argparse.Namespace) -> Arm:
    """A setting's model, wrapper and data loader."""
    cfg = configure(cfg, setting, args)
    hub = MessageHub.get_instance(
        f'epoch_time_{len(MessageHub._instance_dict)}')
    try:
        loader = tooling.make_loader(cfg, args.seed)
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(f'The setting {setting!r}: {error}') from error
    if isinstance(loader.batch_sampler.sampler, InfiniteSampler):
        raise SystemExit(
            f'The setting {setting!r}: an InfiniteSampler has no epochs, so '
            'set train_dataloader.sampler.type=DefaultSampler.')
    # What RuntimeInfoHook says; with a warm-up and the loader's own epoch.
    hub.update_info('max_epochs', args.epochs + 2)
    setup = tooling.build_setup(cfg, setting, args)
    setup.wrapper.initialize_count_status(
        setup.model, 0, (args.epochs + 1) * len(loader))
    return Arm(setup, loader, count_loads(loader.dataset), hub)


def run_epoch(arm: Arm, device: str, train: bool = True) -> float:
    """Seconds of an epoch, from before the loader is asked for an iterator."""
    make_current(arm.hub)
    arm.hub.update_info('epoch', arm.epoch)
    # As DistSamplerSeedHook does it; where there is a batch sampler of the
    # config's, the loader's own sampler is a placeholder.
    arm.loader.batch_sampler.sampler.set_epoch(arm.epoch)
    start = time.perf_counter()
    for data in arm.loader:
        if train:
            arm.trained += batch_size(data)
            arm.setup.model.train_step(data, arm.setup.wrapper)
    if device != 'cpu':
        torch.get_device_module(device).synchronize()
    arm.epoch += 1
    return time.perf_counter() - start


def measure(name: str, cfg: Config, args: argparse.Namespace) -> dict:
    """Everything about a config, as summary.json has it."""
    set_multi_processing(**cfg.get('env_cfg', {}).get('mp_cfg', {}))
    arms = [build(cfg, setting, args) for setting in args.settings]
    first = configure(cfg, args.settings[0], args).train_dataloader
    times: list[list[float]] = [[] for _ in arms]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=len(arms) * (args.epochs + 2))

        def run(arm, train=True):
            seconds = run_epoch(arm, args.device, train)
            progress.advance(task)
            return seconds

        for arm in arms:
            run(arm)
            arm.loads.value = arm.trained = 0
        before = [arm.setup.count() for arm in arms]
        for _ in range(args.epochs):
            for arm, seconds in zip(arms, times):
                seconds.append(run(arm))
        loads = [arm.loads.value for arm in arms]
        alone = [run(arm, train=False) for arm in arms]
    rows = []
    for i, arm in enumerate(arms):
        key = 'samples_backpropagated'
        # OptimWrapper counts nothing: its samples pass once.
        passed = arm.setup.count()[key] - before[i][key]
        rows.append(dict(
            compare_pairs(times[i], times[0]), seconds=times[i],
            setting=arm.setup.setting, loader_seconds=alone[i],
            decoded=loads[i] / args.epochs,
            backpropagated=(passed or arm.trained) / args.epochs,
            finite=arm.setup.is_finite()))
    return dict(
        config=name, epochs=args.epochs, samples=len(arms[0].loader.dataset),
        batch_size=first.batch_size, num_workers=first.get('num_workers', 0),
        rows=rows)


def title_of(result: dict) -> str:
    """What was run, in a line."""
    return (f'{result["config"]}: {result["samples"]:,} samples, batch '
            f'{result["batch_size"]}, {result["num_workers"]} workers, '
            f'{result["epochs"]} rounds')


def parts_of(result: dict) -> Parts:
    """Title, rows and legend of a config's table."""
    legend = (f'ratio: to {result["rows"][0]["setting"]} in the same round, '
              'median and range; loader: an epoch of the data loader alone; '
              'decoded, passes: samples that are loaded, and samples that are '
              'back-propagated, in an epoch.')
    return title_of(result), [cells_of(row) for row in result['rows']], legend


def cells_of(row: dict) -> dict[str, str]:
    """A row of the tables, by the head of its column."""
    low, high = row['range']
    return {'setting': row['setting'],
            'epoch\n[s]': f'{statistics.median(row["seconds"]):.2f}',
            'ratio': f'{row["ratio"]:.2f}', 'range': f'{low:.2f}-{high:.2f}',
            'loader\n[s]': f'{row["loader_seconds"]:.2f}',
            'decoded': f'{row["decoded"]:,.0f}',
            'passes': f'{row["backpropagated"]:,.0f}'}


def draw(axis, rows: list[dict]) -> None:
    """The ratios of all rounds, and their medians."""
    axis.barh(range(len(rows)), [row['ratio'] for row in rows], 0.6,
              color='tab:blue', alpha=0.4, label='median')
    for i, row in enumerate(rows):
        axis.plot(row['ratios'], [i] * len(row['ratios']), 'k.',
                  label=None if i else 'a round')


def loader_ratios(rows: list[dict]) -> list[float]:
    """Times of the loaders alone, as ratios to the first setting's epoch."""
    epoch = statistics.median(rows[0]['seconds'])
    return [row['loader_seconds'] / epoch for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
    parser = tooling.settings_parser(__doc__, '--settings', SETTINGS)
    parser.add_argument('--epochs', type=positive, default=5,
                        help='rounds (5)')
    args = parser.parse_args(argv)
    cases = [(Path(path).stem, read_config(path)) for path in args.configs]
    for _, cfg in cases:  # all of them before anything runs
        set_dataloader_defaults(
            cfg, ['train_dataloader'], pin_memory=args.device != 'cpu')
        for setting in args.settings:
            configure(cfg, setting, args)
    out = args.out or Path('work_dirs/epoch_time') / cases[0][0]
    print(machine())
    results = []
    for name, cfg in cases:
        with scope_of(cfg):
            results.append(measure(name, cfg, args))
        print_result(results[-1], parts_of)
    write_summary(out, [*map(parts_of, results)], argv or sys.argv,
                  device=args.device, seed=args.seed, results=results)
    plot_ratios(results, out / 'epoch_time.png', 'time of an epoch', title_of,
                draw, loader_ratios, 'loader alone')
    print(f'Written to {out}: summary.md, summary.json, epoch_time.png.')


if __name__ == '__main__':
    main()
