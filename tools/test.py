"""Evaluates a checkpoint with any MMEngine config, of either task."""

import argparse
from copy import deepcopy

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import DumpResults

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
    parser.add_argument('checkpoint', help='the checkpoint file')
    parser.add_argument('--out', help='file for the results')
    parser.add_argument('--out-item', choices=['metrics', 'pred'],
                        help='what --out holds; the default is pred')
    parser.add_argument('--amp', action='store_true',
                        help='test in half precision')
    parser.add_argument(
        '--tta', action='store_true',
        help="average over the config's tta_pipeline, or over flips")
    parser.add_argument('--show-dir', help='folder for drawn predictions')
    parser.add_argument('--show', action='store_true',
                        help='show drawn predictions')
    parser.add_argument('--interval', type=int, default=1,
                        help='draw every so many samples')
    parser.add_argument('--wait-time', type=float, default=2,
                        help='seconds that a prediction is shown')
    args = parser.parse_args()
    if args.out_item and not args.out:
        parser.error('--out-item needs --out, the file to write.')
    return args


def use_tta(cfg: Config) -> None:
    """Wraps the model so that predictions are averaged over augmentations."""
    if 'tta_model' not in cfg:
        if cfg.get('default_scope') != 'mmpretrain':
            raise SystemExit('--tta needs tta_model and tta_pipeline in the '
                             'config.')
        pipeline = cfg.test_dataloader.dataset.pipeline
        flips = [dict(type='RandomFlip', prob=prob) for prob in (1., 0.)]
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
        cfg.tta_pipeline = deepcopy(pipeline[:-1]) + [
            dict(type='TestTimeAug', transforms=[flips, [pipeline[-1]]])]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Takes the command line's wishes into the config."""
    cfg.load_from = args.checkpoint
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir is not None:
        if 'visualization' not in cfg.get('default_hooks', {}):
            raise SystemExit(
                '--show and --show-dir need a `visualization` hook in '
                'default_hooks: add the VisualizationHook of the task.')
        hook = cfg.default_hooks.visualization
        hook.update(show=args.show, wait_time=args.wait_time,
                    interval=args.interval)
        if cfg.get('default_scope') == 'mmseg':
            hook.draw = True
            cfg.visualizer.save_dir = args.show_dir
        else:
            hook.update(enable=True, out_dir=args.show_dir)
    if args.tta:
        use_tta(cfg)
    set_dataloader_defaults(cfg, ('test_dataloader', ),
                            not args.no_pin_memory)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)


def evaluate(cfg: Config, args: argparse.Namespace) -> None:
    """Tests, and writes what --out asks for."""
    runner = build_runner(cfg)
    if args.out and args.out_item != 'metrics':
        runner.test_evaluator.metrics.append(
            DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    merge_args(cfg, args)
    with loading_as(args):
        evaluate(cfg, args)
    leave_processes()


if __name__ == '__main__':
    main()
