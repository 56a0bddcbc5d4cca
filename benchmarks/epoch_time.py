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
import copy
import json
import multiprocessing
import shlex
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import DataLoader, Dataset

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _common import (  # noqa: E402
    machine,
    parse_setting,
    set_dataloader_defaults,
)
from _epoch_report import draw, parts_of  # noqa: E402
from _settings import (  # noqa: E402
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
from ausam_mm.sampling import batch_size  # noqa: E402

SETTINGS = (
    'OptimWrapper', 'SAM', 'AUSAM alpha=0.5',
    'AUSAM alpha=0.5 train_dataloader.batch_sampler.type=AUSAMBatchSampler')


@dataclass
class Arm:
    """A setting in training.

    Attributes:
        setup (Setup): Its model and wrapper.
        loader (DataLoader): Its data loader.
        loads (Synchronized): How many samples were loaded.
        hub (MessageHub): Its message hub.
        epoch (int): The next epoch.
        trained (int): How many samples the steps were given.
    """
    setup: Setup
    loader: DataLoader
    loads: Any
    hub: MessageHub
    epoch: int = 0
    trained: int = 0


def configure(cfg: Config, setting: str, args: argparse.Namespace) -> Config:
    """A config with a setting's wrapper and options, as train.py has it.

    Args:
        cfg (Config): The config; it stays as it is.
        setting (str): The setting.
        args (Namespace): The parsed arguments.

    Returns:
        Config: The new config.
    """
    parsed = parse_setting(setting)
    cfg = copy.deepcopy(cfg)
    swap_wrapper(cfg, parsed['name'])
    set_dataloader_defaults(
        cfg, ['train_dataloader'], pin_memory=args.device != 'cpu')
    merge(cfg, [*args.cfg_options, *parsed['options']])
    if not cfg.train_dataloader.get('num_workers'):
        cfg.train_dataloader.persistent_workers = False
    return cfg


def count_loads(dataset: Dataset) -> Any:
    """Counts the samples that are loaded, also by processes forked later.

    Args:
        dataset (Dataset): The data set, whose class becomes a subclass of it,
            so that samplers see what they would see otherwise.

    Returns:
        Synchronized: The number, as its ``value``.
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
    """A setting's model, wrapper and data loader.

    Args:
        cfg (Config): The config, without any options.
        setting (str): The setting.
        args (Namespace): The parsed arguments.

    Returns:
        Arm: The setting, ready to train.

    Raises:
        SystemExit: If the data cannot be read, or the setting names what does
            not exist.
    """
    cfg = configure(cfg, setting, args)
    hub = MessageHub.get_instance(
        f'epoch_time_{len(MessageHub._instance_dict)}')
    try:
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=args.seed)
    except OSError as error:
        raise SystemExit(
            f'The training data cannot be read ({error}): name their place '
            'with --cfg-options train_dataloader.dataset.data_root=FOLDER.'
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(f'The setting {setting!r}: {error}') from error
    if isinstance(loader.batch_sampler.sampler, InfiniteSampler):
        raise SystemExit(
            f'The setting {setting!r}: an InfiniteSampler has no epochs, so '
            'set train_dataloader.sampler.type=DefaultSampler.')
    # What RuntimeInfoHook says; with a warm-up and the loader's own epoch.
    hub.update_info('max_epochs', args.epochs + 2)
    setup = build_setup(cfg, setting, args.device, args.seed)
    setup.wrapper.initialize_count_status(
        setup.model, 0, (args.epochs + 1) * len(loader))
    return Arm(setup, loader, count_loads(loader.dataset), hub)


def run_epoch(arm: Arm, device: str, train: bool = True) -> float:
    """Seconds of an epoch.

    Args:
        arm (Arm): The setting.
        device (str): Where it trains.
        train (bool): Whether its batches are trained. Defaults to True.

    Returns:
        float: The seconds, from before the data loader is asked for an
        iterator.
    """
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
    """Everything about a config.

    Args:
        name (str): The config's name.
        cfg (Config): The config, without any options.
        args (Namespace): The parsed arguments.

    Returns:
        dict: The results, as summary.json has them.
    """
    set_multi_processing(**cfg.get('env_cfg', {}).get('mp_cfg', {}))
    arms = [build(cfg, setting, args) for setting in args.settings]
    first = configure(cfg, args.settings[0], args).train_dataloader
    times: List[List[float]] = [[] for _ in arms]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=len(arms) * (args.epochs + 2))

        def run(arm, train=True):
            seconds = run_epoch(arm, args.device, train)
            progress.advance(task)
            return seconds

        for arm in arms:
            run(arm)
            arm.loads.value = arm.trained = 0
        before = [count(arm.setup.wrapper) for arm in arms]
        for _ in range(args.epochs):
            for arm, seconds in zip(arms, times):
                seconds.append(run(arm))
        loads = [arm.loads.value for arm in arms]
        alone = [run(arm, train=False) for arm in arms]
    rows = []
    for i, arm in enumerate(arms):
        ratios = [a / b for a, b in zip(times[i], times[0])]
        key = 'samples_backpropagated'
        # A plain wrapper counts nothing: its samples pass once.
        passed = count(arm.setup.wrapper)[key] - before[i][key]
        rows.append(dict(
            setting=arm.setup.setting, seconds=times[i], ratios=ratios,
            ratio=statistics.median(ratios), range=[min(ratios), max(ratios)],
            loader_seconds=alone[i], decoded=loads[i] / args.epochs,
            backpropagated=(passed or arm.trained) / args.epochs,
            finite=is_finite(arm.setup)))
    return dict(
        config=name, epochs=args.epochs, samples=len(arms[0].loader.dataset),
        batch_size=first.batch_size, num_workers=first.get('num_workers', 0),
        rows=rows)


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG',
                        help='a file, or package::path')
    parser.add_argument('--settings', nargs='+', metavar='SETTING',
                        default=list(SETTINGS),
                        help='ratios are to the first; the default is\n'
                        f'{", ".join(SETTINGS)}')
    parser.add_argument('--epochs', type=positive, default=5,
                        help='rounds (5)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, ...')
    parser.add_argument('--seed', type=int, default=0,
                        help='of weights, data and draws (0)')
    parser.add_argument('--out', type=Path, help='folder of the results; the '
                        'default is\nwork_dirs/epoch_time/<first config>')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings of all configs, key=value')
    args = parser.parse_args(argv)
    check_device(parser, args.device)
    return args


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    # All of them before anything runs.
    cases = [(Path(path).stem, read_config(path)) for path in args.configs]
    for _, cfg in cases:
        for setting in args.settings:
            check(configure(cfg, setting, args), setting)
    out = args.out or Path('work_dirs/epoch_time') / cases[0][0]
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(machine())
    results = []
    for name, cfg in cases:
        with scope_of(cfg):
            results.append(measure(name, cfg, args))
        console.print(table_of(*parts_of(results[-1])))
        for row in results[-1]['rows']:
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
            sys.argv if argv is None else ['epoch_time.py', *argv]),
        device=args.device, seed=args.seed, results=results), indent=2))
    draw(results, out / 'epoch_time.png')
    console.print(f'Written to {out}: summary.md, summary.json, '
                  'epoch_time.png.')


if __name__ == '__main__':
    main()
