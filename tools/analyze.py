"""Looks into trainings by their checkpoints.

gradients: what the scores of samples say of their gradients, and how near
sampled gradients come to those of full batches.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import set_random_seed
from rich.console import Console
from rich.progress import Progress

from ausam_mm.analysis.gradients import (
    BATCHNORM,
    Batch,
    analyze,
    load_batches,
    load_checkpoint,
)
from ausam_mm.analysis.gradients_report import (
    plot_scatter,
    plot_selections,
    tables,
)
from ausam_mm.tooling.reports import console, table_of, write_summary
from ausam_mm.tooling.runner import (
    add_trust,
    loading_as,
    read_config,
    set_dataloader_defaults,
)
from ausam_mm.tooling.settings import (
    build_model,
    make_loader,
    merge,
    positive,
    scope_of,
    usable,
)

GRADIENTS = """The gradients of samples, in checkpoints that AUSAM has trained.

On a fixed part of the training data: the norm of each sample's gradient,
its DLP at the checkpoint, its ADLP in the checkpoint's table and its loss,
with their rank correlations; and bias and variance of sampled gradients
against those of full batches, for each way of selecting that AUSAM has. With
LabelNoise also how many of the selected samples have a wrong label.
BatchNorm normalizes by its running statistics, as in evaluation.

It writes tables (summary.md), all figures as JSON (summary.json), those of
each sample (samples.json), scatter.png and selections.png.
"""


def ratio(text: str) -> float:
    """A ratio of a batch."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text} is no ratio in (0, 1)')
    return value


def at_least_two(text: str) -> int:
    """An integer of at least 2."""
    value = positive(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f'{text} must be 2 or more')
    return value


def add_gradients(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command ``gradients``."""
    parser = commands.add_parser(
        'gradients', description=GRADIENTS,
        help='scores and selections of AUSAM',
        formatter_class=argparse.RawTextHelpFormatter)
    parser.set_defaults(run=gradients)
    parser.add_argument('config', help='a file, or package::path')
    parser.add_argument('checkpoints', nargs='+', type=Path,
                        metavar='CHECKPOINT', help='files of one training')
    parser.add_argument('--out', '--work-dir', type=Path, help='folder of the '
                        'results; the default is\n'
                        'work_dirs/analyze/gradients/<config>')
    parser.add_argument('--samples', type=at_least_two, default=512,
                        help='samples of the training data (512)')
    parser.add_argument('--batch-size', type=at_least_two, default=128,
                        help='samples that are selected from (128)')
    parser.add_argument('--ratios', type=ratio, nargs='+',
                        default=[0.25, 0.5, 0.75],
                        help='ratios that are selected (0.25 0.5 0.75)')
    parser.add_argument('--selections', type=at_least_two, default=200,
                        help='selections from each batch (200)')
    parser.add_argument('--seed', type=int, default=0,
                        help='of samples, augmentation and\nselections (0)')
    parser.add_argument('--device', type=usable, default='cpu',
                        help='cpu, cuda, ...')
    add_trust(parser)
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings to override, key=value')


def names_of(paths: Sequence[Path]) -> list[str]:
    """Short names of files, with their folder where they are alike."""
    number = Counter(path.stem for path in paths)
    return [path.stem if number[path.stem] == 1 else
            f'{path.parent.name}/{path.stem}' for path in paths]


def read_batches(args: argparse.Namespace, cfg: Config) -> list[Batch]:
    """The samples, for all checkpoints the same, augmentation included."""
    settings = cfg.train_dataloader
    numbered = settings.pop('batch_sampler', None) is not None
    settings.update(batch_size=1, num_workers=0,
                    sampler=dict(type='DefaultSampler', shuffle=False))
    set_dataloader_defaults(cfg, ['train_dataloader'], pin_memory=False)
    loader = make_loader(cfg, args.seed)
    set_random_seed(args.seed)
    return load_batches(loader.dataset, loader.collate_fn, args.samples,
                        args.batch_size, args.seed, numbered)


def gradients(args: argparse.Namespace) -> None:
    """The sub-command of this name."""
    cfg = read_config(args.config)
    merge(cfg, args.cfg_options)
    figures, of_samples = [], []
    with scope_of(cfg), loading_as(args), Progress(
            console=Console(stderr=True)) as progress:
        batches = read_batches(args, cfg)
        model = build_model(cfg).to(args.device)
        number = sum(map(len, batches))
        for name, path in zip(names_of(args.checkpoints), args.checkpoints):
            method = load_checkpoint(path, cfg, model)
            task = progress.add_task(f'gradients of {name}', total=number)
            found, samples = analyze(
                method, model, batches, args.ratios, args.selections,
                args.seed, partial(progress.advance, task))
            figures.append(dict(checkpoint=name, **found))
            of_samples.append(dict(checkpoint=name, **samples))
    indices = torch.cat([batch.indices for batch in batches]).tolist()
    wrong = None if batches[0].wrong is None else torch.cat(
        [batch.wrong for batch in batches]).tolist()
    result = dict(
        settings=dict(
            config=args.config, cfg_options=args.cfg_options, samples=number,
            batch_size=len(batches[0]), ratios=args.ratios,
            selections=args.selections, seed=args.seed, device=args.device,
            batchnorm=BATCHNORM),
        wrong=sum(wrong) / number if wrong else None, checkpoints=figures)
    out = args.out or Path('work_dirs/analyze/gradients',
                           Path(args.config).stem)
    parts = tables(result)
    write_summary(out, parts, ['python', *sys.argv], **result)
    (out / 'samples.json').write_text(json.dumps(dict(
        indices=indices, wrong=wrong, checkpoints=of_samples)) + '\n')
    plot_scatter(figures, of_samples, wrong, out / 'scatter.png')
    plot_selections(result, out / 'selections.png')
    terminal = console()
    for part in parts:
        terminal.print(table_of(*part), '')
    print(f'Written to {out}: summary.md, summary.json, samples.json, '
          'scatter.png, selections.png.')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_gradients(parser.add_subparsers(required=True, metavar='COMMAND'))
    args = parser.parse_args()
    try:
        args.run(args)
    except ValueError as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
