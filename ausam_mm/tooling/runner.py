"""From a command line to a Runner: what train.py and test.py share."""

import argparse
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hub import get_config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from ..checkpoints import UntrustedCheckpointError, checkpoint_loading


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of both tools, the config first."""
    parser.add_argument('config', help='a file, or package::path')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and results; the default is work_dirs/<config>')
    add_trust(parser)
    parser.add_argument('--no-pin-memory', action='store_true',
                        help='do not copy batches into pinned memory')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction,
        help='settings to override, key=value with dots for nesting; a list '
        'is key="[a,b]" or key=a,b, without spaces')
    parser.add_argument('--launcher', default='none',
                        choices=['none', 'pytorch', 'slurm', 'mpi'],
                        help='what started the processes')
    # torchrun gives the rank in the environment, older launchers as a flag.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds ``--trust-checkpoint``, which :func:`loading_as` reads."""
    parser.add_argument(
        '--trust-checkpoint', action='store_true',
        help='load checkpoints that can run code, too; whoever wrote one can '
        'do what you can')


@contextmanager
def loading_as(args: argparse.Namespace) -> Iterator[None]:
    """Loads checkpoints in the context as ``--trust-checkpoint`` has it.

    Raises:
        SystemExit: If one could run code, and the flag is not set.
    """
    try:
        with checkpoint_loading(args.trust_checkpoint):
            yield
    except UntrustedCheckpointError as error:
        raise SystemExit(f'{error.refusal} If you trust where it comes from, '
                         'pass --trust-checkpoint.') from None


def read_config(path: str) -> Config:
    """The config of a file, or of an installed package as package::path.

    Raises:
        SystemExit: If there is no such file.
    """
    # Config.fromfile knows packages in `_base_` only.
    if '::' in path:
        return get_config(path)
    if not Path(path).is_file():
        raise SystemExit(f'There is no config {path}: name a file, or one of '
                         'an installed package as package::path.')
    return Config.fromfile(path)


def load_config(args: argparse.Namespace) -> Config:
    """The config with launcher and work_dir, before ``--cfg-options``."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def set_dataloader_defaults(cfg: Config,
                            names: Sequence[str],
                            pin_memory: bool = True,
                            persistent_workers: bool = True) -> None:
    """Sets what the task libraries' own tools set for their data loaders.

    mmpretrain's preprocessor wants batches stacked by default_collate; mmpose
    keeps MMEngine's default.

    Args:
        cfg (Config): The config, changed in place.
        names (Sequence[str]): Keys of the data loaders.
        pin_memory (bool): Whether to pin memory. Defaults to True.
        persistent_workers (bool): Whether workers outlive an epoch, where
            there are any. Defaults to True.
    """
    for name in names:
        loader = cfg.get(name)
        if loader is None:
            continue
        if pin_memory:
            loader.setdefault('pin_memory', True)
        else:
            loader.pin_memory = False
        if not persistent_workers or not loader.get('num_workers', 0):
            loader.persistent_workers = False
        else:
            loader.setdefault('persistent_workers', True)
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))


def find_unnamed_checkpoint(cfg: Config) -> None:
    """Resumes from the newest checkpoint where the last one has no name.

    MMEngine writes the checkpoint and then its name: a process that is killed
    in between may leave the file of the name empty.
    """
    if not cfg.get('resume') or cfg.get('load_from') is not None:
        return
    last = Path(cfg.work_dir) / 'last_checkpoint'
    if last.is_file() and not last.read_text().strip():
        written = Path(cfg.work_dir).glob('*.pth')
        cfg.load_from = str(max(
            written, key=lambda file: file.stat().st_mtime))


def check_checkpoint(cfg: Config) -> None:
    """Ends with a sentence where a checkpoint's file is truncated."""
    path = cfg.get('load_from')
    if path is None and cfg.get('resume'):
        path = find_latest_checkpoint(cfg.work_dir)
    if path is None or not Path(path).is_file():
        return
    with open(path, 'rb') as file:
        start = file.read(2)
    # PyTorch writes zip archives, whose directory comes last.
    if not start or start == b'PK' and not is_zipfile(path):
        raise SystemExit(
            f'{path} is truncated, as when a process is killed while it '
            'writes: name an older one with --resume PATH.')


def build_runner(cfg: Config) -> Runner:
    """Builds the Runner, or the ``runner_type`` that the config names."""
    find_unnamed_checkpoint(cfg)
    check_checkpoint(cfg)
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        # MMEngine's launchers take for granted that there are GPUs.
        torch.distributed.init_process_group('gloo')
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(type='MMDistributedDataParallel', broadcast_buffers=False,
                 find_unused_parameters=cfg.get('find_unused_parameters',
                                                False)))
        cfg.model_wrapper_cfg.setdefault('device_ids', None)
    if 'preprocess_cfg' in cfg:  # as some mmpose configs have it
        cfg.model.setdefault('data_preprocessor', cfg.preprocess_cfg)
    if 'runner_type' in cfg:
        runners: Any = RUNNERS
        runner: Runner = runners.build(cfg)
        return runner
    return Runner.from_cfg(cfg)


def leave_processes() -> None:
    """Ends together: who closes first may abort those that still send.

    A Runner refers to itself, and its model to the group, whose threads would
    outlive ``destroy_process_group`` and abort now and then while Python is
    taken down around them (pytorch/pytorch#179291). No frame may hold the
    Runner any more when this is called.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        gc.collect()
