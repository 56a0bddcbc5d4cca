"""How sharp the minima are that trainings have found.

Of checkpoints of any trainings with the config's model, on a fixed part of
the training data: the largest eigenvalues of the Hessian and its trace, how
much the loss grows within a distance rho of the weights (SAM's sharpness,
one step and the maximum), and the mean of that over sub-batches of m samples.
The model is in eval mode. Samples are augmented once, by the config's
pipeline, and are the same for all checkpoints.

It writes tables (summary.md), all figures as JSON (summary.json) and
sharpness.png.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.progress import Progress

from ...checks import is_number
from ...tooling.reports import write_summary
from ...tooling.runner import loading_as
from ...tooling.settings import positive, scope_of
from ..objective import Objective
from ..sharpness import (
    ball_maximum,
    eigenvalues,
    estimate_trace,
    m_sharpness,
    make_hessian,
)
from ..sharpness_report import correlations, plot_sharpness, tables
from .common import config_of, folder_of, progress, show
from .weights import Comparison, read_results, weights_parser

# Samples of a sub-batch.
M = 32


def none_or_more(text: str) -> int:
    """An integer of at least 0."""
    return 0 if text == '0' else positive(text)


def none_or_two(text: str) -> int:
    """0, or an integer of at least 2, of which there is a standard error."""
    value = none_or_more(text)
    if value == 1:
        raise argparse.ArgumentTypeError('1 must be 0, or 2 or more')
    return value


def radius(text: str) -> float:
    """A radius above 0."""
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} must be above 0')
    return value


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = weights_parser(str(__doc__), 'sharpness')
    parser.add_argument('--top', type=none_or_more, default=3,
                        help='how many eigenvalues (3)')
    parser.add_argument('--trace-samples', type=none_or_two, default=30,
                        help='random vectors for the trace (30)')
    parser.add_argument('--rho', type=radius, help='radius of the ball; the '
                        "default is that of the config's\noptim_wrapper, or "
                        '0.05')
    parser.add_argument('--steps', type=positive, default=20,
                        help='steps of the ascent in the ball (20)')
    parser.add_argument('--m', type=none_or_more, help='samples of a '
                        'sub-batch (32, or a batch where that is\nless); 0 '
                        'leaves m-sharpness out')
    parser.add_argument('--results', type=Path, help='results of the study '
                        'that has trained the checkpoints,\nto compare their '
                        'values with')
    return parser.parse_args(arguments)


def rho_of(args: argparse.Namespace, cfg: Config) -> float:
    """The radius that is asked for, or the config's."""
    rho = cfg.get('optim_wrapper', {}).get('rho')
    return float(args.rho or (rho if is_number(rho) and rho > 0 else 0.05))


def measure(objective: Objective, parts: Sequence[Objective], rho: float,
            args: argparse.Namespace,
            watch: Callable[[str, int | None], Callable[[], Any]]
            ) -> dict[str, Any]:
    """All that is asked for, at the model's weights.

    Args:
        objective (Objective): The loss.
        parts (Sequence[Objective]): Those of sub-batches.
        rho (float): Radius of the ball.
        args (Namespace): The arguments.
        watch (Callable): Starts to show what is computed, and how often what
            it returns is called, or None.
    """
    found: dict[str, Any] = {}
    if args.top:
        found['eigenvalues'], _ = eigenvalues(
            objective, args.top, args.seed, watch('eigenvalues', None))
    if args.trace_samples:
        found['trace'], found['trace_error'] = estimate_trace(
            objective, args.trace_samples, args.seed,
            watch('trace', args.trace_samples * len(objective.calls)))
    found.update(ball_maximum(objective, rho, args.steps,
                              watch('ball', args.steps)))
    if parts:
        found['m_sharpness'] = m_sharpness(
            parts, rho, args.steps, watch(f'm = {args.m}', len(parts)))
    return found


def watching(bar: Progress, name: str
             ) -> Callable[[str, int | None], Callable[[], Any]]:
    """Shows one line of progress for all that is computed of a checkpoint."""
    task = bar.add_task(name, total=None)

    def watch(what: str, total: int | None) -> Callable[[], Any]:
        bar.reset(task, total=total, description=f'{name}: {what}')
        return partial(bar.advance, task)

    return watch


def main(arguments: Sequence[str]) -> None:
    args = parse_args(arguments)
    cfg = config_of(args)
    rho = rho_of(args, cfg)
    values = read_results(args.results, args.checkpoints) if args.results \
        else [None] * len(args.checkpoints)
    figures: list[dict[str, Any]] = []
    with scope_of(cfg), loading_as(args), progress() as bar:
        compared = Comparison(args, cfg)
        if args.m is None:
            args.m = min(M, compared.batch_size)
        parts = compared.parts(args.m) if args.m else []
        if args.top or args.trace_samples:
            make_hessian(compared.objective)  # is there what it needs?
        for (label, loss), name, file, value in zip(
                compared.each(), compared.names, args.checkpoints, values):
            figures.append(dict(
                checkpoint=label, name=name, file=str(file), value=value,
                loss=loss, **measure(compared.objective, parts, rho, args,
                                     watching(bar, label))))
    result = dict(
        settings=dict(
            **compared.settings(args), rho=rho, steps=args.steps,
            m=args.m if parts else None, top=args.top,
            trace_samples=args.trace_samples, note=compared.objective.note),
        checkpoints=figures, correlations=correlations(figures))
    out = folder_of(args, 'sharpness')
    shown = tables(result)
    write_summary(out, shown, ['python', *sys.argv], **result)
    plot_sharpness(result, out / 'sharpness.png')
    show(shown, out, 'summary.md', 'summary.json', 'sharpness.png')
