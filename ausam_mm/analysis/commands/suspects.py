"""Samples by how likely their label is wrong.

The samples of the training data are ranked by what the training's table says
of them, ADLP or their last loss, and by one pass of the model over them: their
loss, or for poses the distance of predicted and labeled keypoints, and how
much it shrinks with left and right exchanged. The rankings of cleanlab by the
same pass stand beside them, if it is installed; its default ranks as the loss
does. The model was trained with these labels: one that has learned them by
heart does not doubt them.

With LabelNoise or KeypointNoise: how many of the wrong labels each finds.

It writes tables (summary.md), all figures as JSON (summary.json), the list
(suspects.csv), its start as images (gallery.png), for FiftyOne (fiftyone/) and
for Label Studio (label_studio.json), and with wrong labels that are known
curves.png.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmengine.config import Config
from mmengine.runner import set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ...checks import require
from ...tooling.reports import console, table_of, write_summary
from ...tooling.runner import loading_as
from ...tooling.settings import positive, scope_of
from ..evaluation import AUGMENTED, Evaluation, evaluate, evaluation_dataset
from ..export import Suspect, write_csv, write_fiftyone, write_label_studio
from ..gallery import gallery_of, load_model
from ..samples import (
    Samples,
    find_table,
    history_in,
    kept_losses,
    open_checkpoint,
    table_in,
)
from ..scores import scores_of
from ..scores_report import plot_gallery
from ..suspects import measure, order_of, rankings_of
from ..suspects_report import plot_curves, tables
from .common import (
    LOADED,
    add_show_number,
    command_parser,
    config_of,
    folder_of,
    name_of_scores,
    names_of,
    progress,
    read_samples,
)


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_parser(str(__doc__), 'suspects')
    parser.add_argument('--no-evaluation', action='store_true',
                        help="rank by the training's table alone: neither the "
                        'model\nnor an image is loaded')
    parser.add_argument('--by', metavar='RANKING',
                        help='what ranks the list: ADLP, loss, ... as in the '
                        'table;\nthe default is the loss, for poses '
                        'left-right, and without\nevaluation the kept '
                        'losses, or else the scores')
    parser.add_argument('--first', type=positive, help='samples that are '
                        'looked at, for precision and found;\nthe default is '
                        'the number of wrong labels')
    add_show_number(parser, 'images of the first of the list, where there is '
                    'an\nevaluation')
    parser.add_argument('--export', type=positive, default=1000,
                        metavar='NUMBER', help='samples for FiftyOne and '
                        'Label Studio (1000)')
    parser.add_argument('--batch-size', type=positive, default=64,
                        help='samples of a pass (64)')
    return parser.parse_args(arguments)


@dataclass
class Found:
    """What there is of all samples.

    Attributes:
        samples (Samples): The samples.
        collate (Callable): What makes a batch of them.
        rankings (list[dict]): At each checkpoint, by name.
        evaluation (Evaluation, optional): That of the last checkpoint.
        model (Module, optional): That of the last checkpoint, None without
            an evaluation.
        keypoints (list[str]): Names of keypoints, for poses.
        notes (list[str]): What to say of it.
    """
    samples: Samples
    collate: Callable[[list[Any]], Any]
    rankings: list[dict[str, Tensor]]
    evaluation: Evaluation | None
    model: nn.Module | None
    keypoints: list[str]
    notes: list[str]


def find(args: argparse.Namespace, cfg: Config, names: Sequence[str]) -> Found:
    """Reads tables and evaluates the models of all checkpoints."""
    opened = [open_checkpoint(path) for path in args.checkpoints]
    if args.no_evaluation:
        for checkpoint, path in zip(opened, args.checkpoints):
            table_in(checkpoint, path)
    samples, collate = read_samples(args, cfg)
    found = Found(samples, collate, [], None, None, [],
                  [LOADED] * samples.loaded)
    batches: Iterable[Any] = ()
    if not args.no_evaluation:
        dataset, validation = evaluation_dataset(cfg)
        found.keypoints = _keypoints_of(dataset)
        found.notes += [AUGMENTED] * (not validation)
        part: Any = Subset(dataset, samples.indices.tolist())
        batches = DataLoader(
            part, args.batch_size, collate_fn=collate,
            num_workers=cfg.train_dataloader.get('num_workers', 0))
    for name, checkpoint, path in zip(names, opened, args.checkpoints):
        if not args.no_evaluation:
            found.model = load_model(cfg, checkpoint, path).to(args.device)
            set_random_seed(args.seed)
            with progress() as bar:
                task = bar.add_task(f'evaluation of {name}',
                                    total=len(samples))
                found.evaluation = evaluate(found.model, batches,
                                            partial(bar.advance, task))
        tables = {}
        if find_table(checkpoint):
            tables[name_of_scores(cfg)] = scores_of(
                samples, history_in(checkpoint, path)).values
        else:
            found.notes.append(f'{name} has no ADLP table: its evaluation '
                               'alone ranks.')
        losses = kept_losses(checkpoint, samples)
        if losses is not None:
            tables[f'{cfg.optim_wrapper.keep_losses} loss'] = losses
        found.rankings.append(rankings_of(tables, found.evaluation))
    return found


def main(arguments: Sequence[str]) -> None:
    args = parse_args(arguments)
    cfg = config_of(args)
    names = names_of(args.checkpoints)
    with scope_of(cfg), loading_as(args):
        found = find(args, cfg, names)
        samples, last = found.samples, found.rankings[-1]
        by = choose(args.by, last)
        order, wrong = order_of(last[by]), samples.wrong
        images = [] if found.model is None or not args.show_number else \
            gallery_of(cfg, found.model, samples, order[:args.show_number],
                       found.collate, args.seed)[0]
    first = min(args.first or (1 if wrong is None else int(wrong.sum())),
                len(samples))
    start = [*suspects_of(found, order[:args.export])]
    result: dict[str, Any] = dict(
        settings=dict(
            config=args.config, cfg_options=args.cfg_options, by=by,
            first=first, evaluated=not args.no_evaluation,
            notes=found.notes),
        samples=len(samples),
        wrong=None if wrong is None else int(wrong.sum()),
        checkpoints=[dict(checkpoint=name, rankings=[
            dict(ranking=each, **(
                {} if wrong is None else measure(wrong, ranking, first)))
            for each, ranking in rankings.items()])
            for name, rankings in zip(names, found.rankings)],
        suspects=[dict(index=one.index, path=one.path, label=one.label,
                       prediction=one.prediction, wrong=one.wrong,
                       value=one.values[by]) for one in start[:10]])
    out = folder_of(args, 'suspects')
    parts = tables(result)
    write_summary(out, parts, ['python', *sys.argv], **result)
    write_csv(suspects_of(found, order), out / 'suspects.csv')
    files = ['summary.md', 'summary.json', 'suspects.csv']
    if samples.paths:
        write_fiftyone(start, out / 'fiftyone', found.keypoints)
        write_label_studio(start, out / 'label_studio.json', found.keypoints)
        files += ['fiftyone/', 'label_studio.json']
    else:
        found.notes.append('The samples have no files of their own: there is '
                           'no list for FiftyOne and Label Studio.')
    if images:
        plot_gallery({f'Most suspicious by {by}, {names[-1]}': images},
                     out / 'gallery.png')
        files.append('gallery.png')
    if wrong is not None:
        plot_curves(wrong, last, out / 'curves.png')
        files.append('curves.png')
    terminal = console()
    for part in parts:
        terminal.print(table_of(*part), '')
    for note in found.notes:
        print(note)
    print(f'Written to {out}: {", ".join(files)}.')


def choose(by: str | None, rankings: dict[str, Tensor]) -> str:
    """The ranking of the list.

    Raises:
        ValueError: If there is none of the name that is asked for.
    """
    names = {name.lower(): name for name in rankings}
    if by is None:
        by = next((name for name in ('loss', 'left-right', 'distance',
                                     'mean loss', 'last loss')
                   if name in names), next(iter(names)))
    require(by.lower() in names, f'--by {by} is no ranking here: take one of '
            f'{", ".join(map(repr, rankings))}.')
    return names[by.lower()]


def suspects_of(found: Found, order: Tensor) -> Iterator[Suspect]:
    """The samples of a list in its order."""
    samples, evaluation = found.samples, found.evaluation
    classes = evaluation is not None and len(evaluation.labels) > 0
    if evaluation is not None and classes:
        confidences, predictions = evaluation.probabilities.max(1)
    for rank, i in enumerate(order.tolist(), 1):
        one = Suspect(
            rank, int(samples.indices[i]),
            samples.paths[i] if samples.paths else '',
            samples.name_of(int(samples.groups[i]))
            if samples.grouped == 'class' else '',
            values={name: float(ranking[i]) if ranking[i].isfinite() else None
                    for name, ranking in found.rankings[-1].items()},
            wrong=None if samples.wrong is None else bool(samples.wrong[i]))
        if classes:
            one.prediction = samples.name_of(int(predictions[i]))
            one.confidence = float(confidences[i])
        elif evaluation is not None:
            one.pose = evaluation.poses[i]
        yield one


def _keypoints_of(dataset: Any) -> list[str]:
    """The names of the keypoints of a pose data set, in their order."""
    names = (getattr(dataset, 'metainfo', None) or {}).get(
        'keypoint_id2name', {})
    return [str(names[i]) for i in sorted(names)]
