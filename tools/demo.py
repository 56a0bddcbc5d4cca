"""Trains a classifier and two pose estimators, each in three ways.

MMEngine's OptimWrapper, SAM and AUSAM on scikit-learn's handwritten digits and
on generated figures, through tools/train.py. Then two of the models that
OptimWrapper trained are fine-tuned with 4-bit weights and activations, in the
same three ways. A run that is finished is not run again.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mmengine.config import Config
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ausam_mm.tooling.reports import console, table_of
from ausam_mm.tooling.results import read_scalars, summarize

ROOT = Path(__file__).resolve().parents[1]
METHODS = dict(plain='OptimWrapper', sam='SAM', ausam='AUSAM')
# Config, metric, its factor to percent, rho and AUSAM's ramp in epochs.
TASKS = {
    'digits': ('classification/digits/resnet18-c16_b64_digits.py',
               'accuracy/top1', 1, 0.1, 2),
    'figures, SimCC': ('pose/figures/simcc_res18-c16_b64_figures-64x64.py',
                       'PCK', 100, 0.002, 3),
    'figures, heatmap':
    ('pose/figures/heatmap_res18-c16_b64_figures-64x64.py', 'PCK', 100,
     0.002, 3),
    'digits, W4A4': ('quantization/digits/resnet18-c16-w4a4_b64_digits.py',
                     'accuracy/top1', 1, 0.1, 1),
    'figures, SimCC, W4A4':
    ('quantization/figures/simcc_res18-c16-w4a4_b64_figures-64x64.py',
     'PCK', 100, 0.002, 1),
}
# Whose float training a task starts from.
FLOAT = {
    'digits, W4A4': 'digits',
    'figures, SimCC, W4A4': 'figures, SimCC'
}


def train(task: str, method: str, work_dir: Path,
          progress: Progress | None) -> dict:
    """Runs tools/train.py in a process of its own, or reads its result."""
    config, metric, factor, rho, ramp = TASKS[task]
    config = ROOT / 'configs' / config
    folder = work_dir / config.stem
    if method != 'plain':
        folder = folder.with_name(f'{folder.name}_{method}')
    result = folder / 'result.json'
    cfg = Config.fromfile(config, import_custom_modules=False)
    options = dict(sam=[f'optim_wrapper.rho={rho}'], ausam=[
        f'optim_wrapper.rho={rho}',
        f'optim_wrapper.ramp_epochs={ramp}']).get(method, [])
    # What a finished run was run with.
    settings = '\n'.join([cfg.dump(), *options])
    start = cfg.load_from and work_dir / Path(cfg.load_from).relative_to(
        'work_dirs')
    if result.exists() and not (
            start and start.stat().st_mtime > result.stat().st_mtime):
        done = json.loads(result.read_text())
        if done.pop('config') == settings:
            return done
    # An interrupted run starts anew, so that its seconds are those of one.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    epochs = cfg.train_cfg.max_epochs
    num_train = len(list(Path('data').glob(
        'digits/train/*/*.png' if task.startswith('digits') else
        'figures/train/*.png')))
    command = [
        sys.executable, '-W', 'ignore', ROOT / 'tools' / 'train.py', config,
        '--work-dir', folder, '--optim-wrapper', METHODS[method],
        '--cfg-options', *options,
        'default_hooks.logger.interval=1',
        # Each line has its own iteration's time, not a moving average.
        'log_processor.window_size=1'
    ] + ([f'load_from={start}'] if start else [])
    name = f'{task}, {method}'
    bar = progress.add_task(name, total=epochs, accuracy='') \
        if progress else None
    shown = 0
    log = folder / 'output.txt'
    with open(log, 'w') as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.5)
                records = read_scalars(folder)
                done = [r[metric] for r in records if metric in r]
                epoch = max((r.get('epoch', 0) for r in records), default=0)
                accuracy = f'{factor * done[-1]:.1f} %' if done else ''
                if progress:
                    progress.update(bar, completed=epoch, accuracy=accuracy)
                elif len(done) > shown:
                    shown = len(done)
                    print(f'{name}: epoch {epoch}/{epochs}, {accuracy}',
                          flush=True)
        finally:
            if process.poll() is None:  # the demo was interrupted
                process.terminate()
                process.wait()
    if process.returncode:
        raise SystemExit('\n'.join(
            [*log.read_text().splitlines()[-15:], f'The training of {task} '
             f'with {method} failed: the whole log is {log}.']))
    row = summarize(
        read_scalars(folder), metric, factor, num_train * epochs)
    result.write_text(json.dumps(dict(row, config=settings)))
    return row


def cells_of(task: str, method: str, row: dict) -> dict:
    """A row of the table."""
    return {'run': f'{task}, {method}', 'accuracy': f'{row["accuracy"]:.1f} %',
            'seconds': f'{row["seconds"]:.1f}',
            'samples loaded': f'{row["samples_loaded"]:,}',
            'samples back-propagated':
            f'{row["samples_backpropagated"]:,}'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--tasks', nargs='+', choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        '--methods', nargs='+', choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument(
        '--fresh', action='store_true', help='run finished runs again')
    args = parser.parse_args()
    terminal = console()
    for name in ('digits', 'figures'):
        subprocess.run([
            sys.executable,
            ROOT / 'tools' / 'dataset_converters' / f'{name}.py'
        ], check=True)
    if args.fresh:
        for path in args.work_dir.glob('*/result.json'):
            path.unlink()

    rows = {}
    runs = [(task, method) for task in args.tasks for method in args.methods]
    live = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('epoch {task.completed}/{task.total}'),
        TextColumn('{task.fields[accuracy]}'),
        TimeElapsedColumn(),
        console=terminal) if terminal.is_terminal else None
    if live:
        live.start()
    try:
        for i, (task, method) in enumerate(runs, 1):
            if task in FLOAT:
                rows[task, 'float'] = train(
                    FLOAT[task], 'plain', args.work_dir, live)
            row = rows[task, method] = train(task, method, args.work_dir, live)
            if not live:
                print(
                    f'[{i}/{len(runs)}] {task}, {method}: '
                    f'{row["accuracy"]:.1f} % in {row["seconds"]:.1f} s',
                    flush=True)
    finally:
        if live:
            live.stop()
    terminal.print(table_of(
        'OptimWrapper (plain), SAM and AUSAM',
        [cells_of(*run, row) for run, row in rows.items()]))
    terminal.print(
        'Accuracy: top-1 on digits, PCK@0.1 on figures, one seed each. '
        'Seconds: training without validation. SAM and AUSAM back-propagate '
        'a used sample twice; the first epoch of AUSAM uses all samples. '
        'W4A4: from the weights of the float model, whose row is repeated.')
    summary = args.work_dir / 'summary.json'
    summary.write_text(
        json.dumps([
            dict(task=task, method=method, **row)
            for (task, method), row in rows.items()
        ], indent=2))
    terminal.print(
        f'\nWritten to {summary}. What to try next:\n'
        "  * in your own config: custom_imports = dict(imports=['ausam_mm']) "
        "and optim_wrapper = dict(type='AUSAM', ...)\n"
        '  * use fewer samples for the ascent step than for the descent step: '
        'python tools/train.py '
        'configs/classification/digits/resnet18-c16_b64_digits.py '
        '--optim-wrapper AUSAM --cfg-options optim_wrapper.ramp_epochs=2 '
        '"optim_wrapper.alpha=(0.25,0.75)"\n'
        '  * what it costs: python tools/analysis_tools/benchmark.py '
        'configs/classification/digits/resnet18-c16_b64_digits.py',
        soft_wrap=True, markup=False)


if __name__ == '__main__':
    main()
