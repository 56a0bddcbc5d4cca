"""Trains any MMEngine config, of either task."""

import argparse

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from ausam_mm import set_optim_wrapper
from ausam_mm.tooling.runner import (
    add_common_arguments,
    build_runner,
    leave_processes,
    load_config,
    loading_as,
    set_dataloader_defaults,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument(
        '--optim-wrapper', metavar='NAME',
        help='train with this wrapper, such as AUSAM or SAM, in place of the '
        "config's; its optimizer, clipping, accumulation and precision stay")
    parser.add_argument(
        '--resume', nargs='?', const='auto',
        help='go on from this checkpoint, or without a value from the latest '
        'one in the work dir; where there is none, start anew')
    parser.add_argument('--amp', action='store_true',
                        help='train in automatic mixed precision')
    parser.add_argument('--no-validate', action='store_true',
                        help='do not evaluate during the training')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate with the batch size')
    parser.add_argument('--no-persistent-workers', action='store_true',
                        help='start new data loader workers in each epoch')
    return parser.parse_args()


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Takes the command line's wishes into the config."""
    try:
        set_optim_wrapper(cfg, args.optim_wrapper, args.amp)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if args.optim_wrapper and args.work_dir is None:
        # Not among the results of the config's own wrapper.
        cfg.work_dir += f'_{args.optim_wrapper.lower()}'
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
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
        # MMEngine resumes from `load_from` where it is given. Here it is what
        # the training starts from, such as a float model's weights.
        cfg.resume = not cfg.get('load_from') or \
            find_latest_checkpoint(cfg.work_dir) is not None
        if cfg.resume:
            cfg.load_from = None


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    merge_args(cfg, args)
    with loading_as(args):
        build_runner(cfg).train()
    leave_processes()


if __name__ == '__main__':
    main()
