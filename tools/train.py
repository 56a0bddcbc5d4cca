"""Trains any MMEngine config, of either task."""

import argparse
from typing import Union

from _common import (
    add_common_arguments,
    build_runner,
    leave_processes,
    load_config,
    set_dataloader_defaults,
)
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import find_latest_checkpoint

from ausam_mm.optim.composition import ComposedOptimWrapper


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    add_common_arguments(parser)
    parser.add_argument(
        '--optim-wrapper',
        metavar='NAME',
        help='train with this wrapper, such as AUSAM or SAM, in place of the '
        "config's; its optimizer, clipping, accumulation and precision stay")
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or without a value from the latest '
        'one in the work dir; where there is none, start anew')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train in automatic mixed precision')
    parser.add_argument(
        '--no-validate',
        action='store_true',
        help='do not evaluate during the training')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size')
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start new data loader workers in each epoch')
    return parser.parse_args()


def swap_wrapper(cfg: Config, name: str) -> None:
    """Puts a wrapper in the place of the config's.

    The optimizer with its paramwise_cfg and constructor, clipping and
    accumulation stay. A wrapper that sets the precision becomes the ``base``
    of one that composes, and the other way round.

    Args:
        cfg (Config): The config, changed in place.
        name (str): The name of a registered wrapper.
    """
    kind = OPTIM_WRAPPERS.get(name)
    if kind is None:
        raise SystemExit(
            f'{name}: no such wrapper is registered; there are '
            f'{", ".join(sorted(OPTIM_WRAPPERS.module_dict))}.')
    old = dict(cfg.get('optim_wrapper') or {})
    if 'optimizer' not in old:
        raise SystemExit(
            f'{name} needs one optimizer in the config: add '
            "optim_wrapper=dict(optimizer=dict(type='SGD', lr=...)).")
    new = {
        key: old.pop(key)
        for key in ('optimizer', 'paramwise_cfg', 'constructor', 'clip_grad',
                    'accumulative_counts') if key in old
    }
    base = dict(old.pop('base', None) or {}) if _composes(
        old.get('type')) else old
    if _composes(kind):
        new['type'] = name
        if base.get('type', 'OptimWrapper') not in ('OptimWrapper',
                                                    OptimWrapper):
            new['base'] = base
    else:
        new.update(base)
        if name != 'OptimWrapper':  # which leaves the precision to the base
            new['type'] = name
    cfg.pop('optim_wrapper')
    cfg.optim_wrapper = new
    imports = dict(cfg.get('custom_imports') or {})
    imports.setdefault('allow_failed_imports', False)
    imports['imports'] = [*imports.get('imports', []), 'ausam_mm']
    cfg.custom_imports = imports


def _composes(kind: Union[str, type, None]) -> bool:
    kind = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
    return isinstance(kind, type) and issubclass(kind, ComposedOptimWrapper)


def use_amp(cfg: Config) -> None:
    """Maps ``--amp`` to the wrapper that casts and scales.

    That is the wrapper itself where it is MMEngine's, and its ``base`` where
    it is one that wraps another.

    Args:
        cfg (Config): The config, changed in place.
    """
    wrapper = cfg.optim_wrapper
    plain = ('OptimWrapper', 'AmpOptimWrapper', OptimWrapper, AmpOptimWrapper)
    if wrapper.get('type', 'OptimWrapper') not in plain:
        # A ConfigDict stores a copy of what it is given.
        wrapper.base = wrapper.get('base') or {}
        wrapper = wrapper.base
    wrapper['type'] = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Takes the command line's wishes into the config.

    Args:
        cfg (Config): The config.
        args (Namespace): The parsed arguments.

    Returns:
        Config: The same config.
    """
    if args.optim_wrapper:
        swap_wrapper(cfg, args.optim_wrapper)
        if args.work_dir is None:  # not among the plain wrapper's results
            cfg.work_dir += f'_{args.optim_wrapper.lower()}'
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    if args.resume not in (None, 'auto'):
        cfg.resume, cfg.load_from = True, args.resume
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise SystemExit(
                '--auto-scale-lr needs the batch size that the learning rate '
                'was made for: put auto_scale_lr=dict(base_batch_size=...) '
                'into the config.')
        cfg.auto_scale_lr.enable = True
    set_dataloader_defaults(
        cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader'),
        not args.no_pin_memory, not args.no_persistent_workers)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.resume == 'auto':
        resume_latest(cfg)
    return cfg


def resume_latest(cfg: Config) -> None:
    """Goes on from the latest checkpoint, or starts as the config says.

    MMEngine resumes from ``load_from`` where it is given. Here it is what the
    training starts from, such as a float model's weights.

    Args:
        cfg (Config): The config, changed in place.
    """
    cfg.resume = not cfg.get('load_from') or \
        find_latest_checkpoint(cfg.work_dir) is not None
    if cfg.resume:
        cfg.load_from = None


def main() -> None:
    args = parse_args()
    cfg = merge_args(load_config(args), args)
    build_runner(cfg).train()
    leave_processes()


if __name__ == '__main__':
    main()
