"""The gradients of samples, in checkpoints that AUSAM has trained.

On a fixed part of the training data: the norm of each sample's gradient,
its DLP at the checkpoint, its ADLP in the checkpoint's table and its loss,
with their rank correlations; and bias and variance of sampled gradients
against those of full batches, for each way of selecting that AUSAM has. With
LabelNoise also how many of the selected samples have a wrong label.
BatchNorm normalizes by its running statistics, as in evaluation.

It writes tables (summary.md), all figures as JSON (summary.json), those of
each sample (samples.json), scatter.png and selections.png.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.config import Config

from ...tooling.reports import write_summary
from ...tooling.runner import loading_as
from ...tooling.settings import build_model, scope_of
from ..gradients import (
    BATCHNORM,
    Batch,
    analyze,
    load_batches,
    load_checkpoint,
)
from ..gradients_report import plot_scatter, plot_selections, tables
from .common import (
    at_least_two,
    command_parser,
    config_of,
    folder_of,
    names_of,
    progress,
    show,
    training_loader,
)


def ratio(text: str) -> float:
    """A ratio of a batch."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text} is no ratio in (0, 1)')
    return value


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_parser(str(__doc__), 'gradients')
    parser.add_argument('--samples', type=at_least_two, default=512,
                        help='samples of the training data (512)')
    parser.add_argument('--batch-size', type=at_least_two, default=128,
                        help='samples that are selected from (128)')
    parser.add_argument('--ratios', type=ratio, nargs='+',
                        default=[0.25, 0.5, 0.75],
                        help='ratios that are selected (0.25 0.5 0.75)')
    parser.add_argument('--selections', type=at_least_two, default=200,
                        help='selections from each batch (200)')
    return parser.parse_args(arguments)


def read_batches(args: argparse.Namespace, cfg: Config) -> list[Batch]:
    """The samples, for all checkpoints the same, augmentation included."""
    loader, numbered = training_loader(cfg, args.seed)
    return load_batches(loader.dataset, loader.collate_fn, args.samples,
                        args.batch_size, args.seed, numbered)


def main(arguments: Sequence[str]) -> None:
    args = parse_args(arguments)
    cfg = config_of(args)
    figures: list[dict[str, Any]] = []
    of_samples: list[dict[str, Any]] = []
    with scope_of(cfg), loading_as(args), progress() as bar:
        batches = read_batches(args, cfg)
        model = build_model(cfg).to(args.device)
        number = sum(map(len, batches))
        for name, path in zip(names_of(args.checkpoints), args.checkpoints):
            method = load_checkpoint(path, cfg, model)
            task = bar.add_task(f'gradients of {name}', total=number)
            found, samples = analyze(
                method, model, batches, args.ratios, args.selections,
                args.seed, partial(bar.advance, task))
            figures.append(dict(checkpoint=name, **found))
            of_samples.append(dict(checkpoint=name, **samples))
    indices = torch.cat([batch.indices for batch in batches]).tolist()
    marks = [batch.wrong for batch in batches if batch.wrong is not None]
    wrong = torch.cat(marks).tolist() if marks else None
    result = dict(
        settings=dict(
            config=args.config, cfg_options=args.cfg_options, samples=number,
            batch_size=len(batches[0]), ratios=args.ratios,
            selections=args.selections, seed=args.seed, device=args.device,
            batchnorm=BATCHNORM),
        wrong=sum(wrong) / number if wrong else None, checkpoints=figures)
    out = folder_of(args, 'gradients')
    parts = tables(result)
    write_summary(out, parts, ['python', *sys.argv], **result)
    (out / 'samples.json').write_text(json.dumps(dict(
        indices=indices, wrong=wrong, checkpoints=of_samples)) + '\n')
    plot_scatter(figures, of_samples, wrong, out / 'scatter.png')
    plot_selections(result, out / 'selections.png')
    show(parts, out, 'summary.md', 'summary.json', 'samples.json',
         'scatter.png', 'selections.png')
