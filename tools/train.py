"""Trains any MMEngine config, of either task."""

import argparse

from _common import (
    add_common_arguments,
    build_runner,
    load_config,
    set_dataloader_defaults,
)
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    add_common_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or without a value from the latest '
        'one in the work dir')
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
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
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
    return cfg


def main() -> None:
    args = parse_args()
    cfg = merge_args(load_config(args), args)
    build_runner(cfg).train()


if __name__ == '__main__':
    main()
