"""The scores of samples, in checkpoints that AUSAM has trained.

Of all samples of the training data: the distribution of their scores, how
often each was used, both by class (for poses by data set), how the scores
drift from one checkpoint to the next, and the images with the highest and the
lowest scores. With LabelNoise or KeypointNoise wrong labels are marked.

The images are drawn as a validation has them, with label, prediction and loss
of the last checkpoint. --show-number 0 leaves them out: then neither the model
nor an image is loaded, where the annotations tell who a sample is.

It writes tables (summary.md), all figures as JSON (summary.json), those of
each sample (samples.json), scores.png and gallery.png.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ...tooling.reports import console, table_of, write_summary
from ...tooling.runner import loading_as
from ...tooling.settings import scope_of
from ..evaluation import AUGMENTED
from ..gallery import gallery_of, load_model
from ..samples import Samples, history_in, open_checkpoint
from ..scores import Scores, compare, extremes, scores_of, summarize
from ..scores_report import plot_gallery, plot_scores, tables
from .common import (
    LOADED,
    add_show_number,
    command_parser,
    config_of,
    folder_of,
    name_of_scores,
    names_of,
    read_samples,
)


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_parser(str(__doc__), 'scores')
    add_show_number(
        parser, 'images with the highest, and with the lowest\nscores')
    return parser.parse_args(arguments)


def json_of(values: Tensor) -> list[float | None]:
    """Numbers of six digits; None for what is not finite."""
    return [float(f'{value:.6g}') if math.isfinite(value) else None
            for value in values.tolist()]


def main(arguments: Sequence[str]) -> None:
    args = parse_args(arguments)
    cfg = config_of(args)
    names = names_of(args.checkpoints)
    found: list[Scores] = []
    notes: list[str] = []
    rows: dict[str, Any] = {}
    out = folder_of(args, 'scores')
    with scope_of(cfg), loading_as(args):
        opened = [open_checkpoint(path) for path in args.checkpoints]
        histories = [history_in(checkpoint, path) for checkpoint, path in
                     zip(opened, args.checkpoints)]
        samples, collate = read_samples(args, cfg)
        found = [scores_of(samples, history) for history in histories]
        if args.show_number:
            rows, augmented = _gallery(args, cfg, opened[-1], samples,
                                       found[-1], names[-1], collate)
            notes += [AUGMENTED] * augmented
    if samples.loaded:
        notes.append(LOADED)
    what = name_of_scores(cfg)
    result = dict(
        settings=dict(
            config=args.config, cfg_options=args.cfg_options, scores=what,
            grouped=samples.grouped, shared=samples.shared, notes=notes),
        checkpoints=[dict(checkpoint=name, **summarize(samples, one))
                     for name, one in zip(names, found)],
        drift=[dict(first=names[i - 1], second=names[i],
                    **compare(found[i - 1], found[i]))
               for i in range(1, len(found))])
    parts = tables(result)
    write_summary(out, parts, ['python', *sys.argv], **result)
    (out / 'samples.json').write_text(json.dumps(_of_samples(
        samples, names, found)) + '\n')
    plot_scores(samples, found, names, what, out / 'scores.png')
    files = ['summary.md', 'summary.json', 'samples.json', 'scores.png']
    if rows:
        plot_gallery(rows, out / 'gallery.png')
        files.append('gallery.png')
    terminal = console()
    for part in parts:
        terminal.print(table_of(*part), '')
    for note in notes:
        print(note)
    print(f'Written to {out}: {", ".join(files)}.')


def _gallery(args: argparse.Namespace, cfg: Config,
             checkpoint: dict[str, Any], samples: Samples, scores: Scores,
             name: str, collate: Callable[[list[Any]], Any]
             ) -> tuple[dict[str, Any], bool]:
    """Images by title, and whether they are augmented."""
    highest, lowest = extremes(scores, args.show_number)
    if not len(highest):
        return {}, False
    model: nn.Module = load_model(cfg, checkpoint, args.checkpoints[-1])
    places = torch.cat([highest, lowest])
    images, validation = gallery_of(cfg, model.to(args.device), samples,
                                    places, collate, args.seed)
    what = name_of_scores(cfg)
    labeled = [(image, f'{what} {float(scores.values[i]):.3g}, used '
                f'{int(scores.counts[i])}x\n{text}', wrong)
               for i, (image, text, wrong) in zip(places.tolist(), images)]
    return {f'Highest {what}, {name}': labeled[:len(highest)],
            f'Lowest {what}, {name}': labeled[len(highest):]}, not validation


def _of_samples(samples: Samples, names: Sequence[str],
                found: Sequence[Scores]) -> dict[str, Any]:
    """What there is of each sample."""
    return dict(
        indices=samples.indices.tolist(), keys=samples.keys.tolist(),
        grouped=samples.grouped, groups=samples.groups.tolist(),
        names=samples.names, paths=samples.paths,
        wrong=None if samples.wrong is None else samples.wrong.tolist(),
        checkpoints=[dict(checkpoint=name, scores=json_of(one.values),
                          counts=one.counts.tolist())
                     for name, one in zip(names, found)])
