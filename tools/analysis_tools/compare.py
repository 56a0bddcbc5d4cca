"""Trains one config with several wrappers and seeds, and compares them.

Runs with the same seed have the same initial weights and data order. A run
that is finished is not run again, and one that was interrupted goes on, so the
command can be stopped at any time. It writes a table with mean and spread
(summary.md), everything as JSON (summary.json), and the curves over epochs,
seconds and back-propagated samples (curves.png).

A setting is a wrapper with its options, and options of the config, which have
a dot: 'AUSAM alpha=(0.25,0.75) rho=0.1', 'OptimWrapper
train_cfg.max_epochs=160'. OptimWrapper counts no samples: for it an
incomplete last batch counts as a whole one.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.config import Config

from ausam_mm.tooling.reports import console, table_of, write_summary
from ausam_mm.tooling.results import Record, read_scalars, summarize
from ausam_mm.tooling.runner import add_trust
from ausam_mm.tooling.settings import parse_setting

TRAIN = Path(__file__).resolve().parents[1] / 'train.py'


def train(config: str, setting: str, seed: int, folder: Path,
          args: argparse.Namespace) -> list[Record]:
    """Runs tools/train.py, or goes on with it, and reads what it wrote."""
    name, options = parse_setting(setting)
    command = [
        sys.executable, '-W', 'ignore', str(TRAIN), config, '--optim-wrapper',
        name, '--work-dir', str(folder), '--resume',
        *['--trust-checkpoint'] * args.trust_checkpoint, '--cfg-options',
        f'randomness.seed={seed}', 'default_hooks.logger.interval=1',
        'log_processor.window_size=1', *args.cfg_options, *options
    ]
    done = folder / 'finished.json'
    if not done.exists() or json.loads(done.read_text()) != command[3:]:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / 'output.txt', 'a') as output:
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT).returncode
        if code:
            raise SystemExit(
                f'The training of {setting!r} failed: the whole log is '
                f'{folder / "output.txt"}.')
        done.write_text(json.dumps(command[3:]))
    return read_scalars(folder)


def curve(records: list[Record], metric: str, factor: float) -> list[dict]:
    """Accuracy with epochs, seconds and passes up to each validation."""
    points = []
    epoch = seconds = passes = 0
    for record in records:
        if 'loss' in record:
            epoch = record.get('epoch', record['step'])
            seconds += record['time']
            passes = record.get('ausam/samples_backpropagated', passes)
        elif metric in record:
            points.append(dict(accuracy=factor * record[metric], epoch=epoch,
                               seconds=seconds, backpropagated=passes))
    return points


def run(config: str, setting: str, seed: int, folder: Path,
        args: argparse.Namespace) -> tuple[dict, list[dict]]:
    """Trains with a setting and a seed: the row and the curve."""
    records = train(config, setting, seed, folder, args)
    points = curve(records, args.metric, args.factor)
    if not points:
        raise SystemExit(
            f'{folder} has no metric {args.metric!r}: name one of '
            f'{sorted({k for r in records for k in r})} with --metric.')
    cfg = Config.fromfile(next(folder.glob('*.py')))
    loaded = cfg.train_dataloader.batch_size * sum(
        'loss' in r for r in records)
    row = summarize(records, args.metric, args.factor, loaded)
    for point in points:  # OptimWrapper counts no passes
        point['backpropagated'] = point['backpropagated'] or round(
            row['samples_backpropagated'] * point['epoch']
            / points[-1]['epoch'])
    return dict(setting=setting, seed=seed, **row), points


def cells_of(setting: str, runs: list[dict]) -> dict[str, str]:
    """A row of the table: means over seeds."""
    accuracies = [row['accuracy'] for row in runs]
    mean = {key: statistics.mean(row[key] for row in runs) for key in
            ('seconds', 'samples_loaded', 'samples_backpropagated')}
    return {'setting': setting,
            'accuracy [%]': f'{statistics.mean(accuracies):.2f}',
            'spread': f'{min(accuracies):.2f} - {max(accuracies):.2f}',
            'seconds': f'{mean["seconds"]:.0f}',
            'samples loaded': f'{mean["samples_loaded"]:,.0f}',
            'back-propagated': f'{mean["samples_backpropagated"]:,.0f}'}


def draw(curves: dict[str, list[list[dict]]], metric: str,
         path: Path) -> None:
    """Draws the mean curves of all settings over three measures of cost."""
    axes_of = dict(epoch='epoch', seconds='seconds of training',
                   backpropagated='samples back-propagated')
    figure = Figure(figsize=(15, 4.5))
    axes = figure.subplots(1, 3, sharey=True)
    for axis, (key, label) in zip(axes, axes_of.items()):
        for i, (setting, runs) in enumerate(curves.items()):
            x, y = ([statistics.mean(point[name] for point in points)
                     for points in zip(*runs)] for name in (key, 'accuracy'))
            axis.plot(x, y, f'C{i % 10}', label=setting,
                      linestyle=('-', '--', ':')[i // 10 % 3])
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f'{metric} [%], mean over seeds')
    figure.tight_layout()
    # Below: settings are too long to lie among the curves.
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, ncol=2,
                  loc='upper center', bbox_to_anchor=(0.5, 0.))
    figure.savefig(path, dpi=100, bbox_inches='tight')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--wrappers', nargs='+', metavar='SETTING', default=[
        'OptimWrapper', 'SAM', 'AUSAM', 'AUSAM alpha=(0.25,0.75)'])
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--metric', default='accuracy/top1')
    parser.add_argument('--factor', type=float, default=1.,
                        help='what makes the metric percent: 100 for PCK')
    parser.add_argument('--work-dir', type=Path)
    add_trust(parser)
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings of all runs, key=value')
    args = parser.parse_args()
    work_dir = args.work_dir or Path('work_dirs/compare') / Path(
        args.config).stem
    for setting in args.wrappers:  # before anything is trained
        parse_setting(setting)

    rows, curves = [], {}
    # Seeds outside: a comparison that was stopped early is a fair one.
    for seed in args.seeds:
        for setting in args.wrappers:
            name = re.sub(r'[^\w.]+', '-', setting).strip('-')
            folder = work_dir / f'{name}-seed{seed}'
            print(f'seed {seed}, {setting}: {folder}', flush=True)
            row, points = run(args.config, setting, seed, folder, args)
            print(f'  {row["accuracy"]:.2f} % in {row["seconds"]:.0f} s',
                  flush=True)
            rows.append(row)
            curves.setdefault(setting, []).append(points)
    parts = (f'{Path(args.config).stem}, seeds '
             f'{", ".join(map(str, args.seeds))}',
             [cells_of(setting, [row for row in rows
                                 if row['setting'] == setting])
              for setting in args.wrappers],
             'means over the seeds; spread: smallest and largest accuracy.')
    console().print(table_of(*parts))
    write_summary(work_dir, [parts], sys.argv, runs=rows, curves=curves)
    draw(curves, args.metric, work_dir / 'curves.png')
    print(f'Written to {work_dir}: summary.md, summary.json, curves.png.')


if __name__ == '__main__':
    main()
