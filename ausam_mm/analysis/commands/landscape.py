"""The training loss between and around the minima that trainings have found.

Of checkpoints of any trainings with the config's model, on a fixed part of
the training data, in eval mode; of classifiers the accuracy, too.

--kind line: along the line from the first checkpoint to each other one, and a
bit beyond. BatchNorm's running statistics are interpolated as the weights
are.
--kind plane: on a plane around each checkpoint. --directions random: two
random directions whose filters are as long as the checkpoint's own (Li et
al., NeurIPS 2018), so that 1 is as far as the weights are long; --directions
eigen: the eigenvectors of the Hessian's two largest eigenvalues, of length 1.

It writes a table (summary.md), all figures as JSON (summary.json),
landscape.png and landscape.html, an interactive page without network access.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from ...checks import require
from ...tooling.reports import write_summary
from ...tooling.runner import loading_as
from ...tooling.settings import scope_of
from ..landscape import (
    STATISTICS,
    check_states,
    grid,
    random_direction,
    state_of,
    survey,
    walk,
)
from ..landscape_report import check_plotly, plot, tables, write_page
from ..objective import Weights
from ..sharpness import eigenvalues, make_hessian
from .common import at_least_two, config_of, folder_of, progress, show
from .weights import Comparison, weights_parser

# How many planes a page can show: browsers limit the scenes in three
# dimensions of a page.
LIMIT = 12
_RANGE = dict(line=(-0.25, 1.25), plane=(-1., 1.))
_STEPS = dict(line=31, plane=21)


def parse_args(arguments: Sequence[str]) -> argparse.Namespace:
    parser = weights_parser(str(__doc__), 'landscape')
    parser.add_argument('--kind', choices=('line', 'plane'), default='line',
                        help='where the loss is computed (line)')
    parser.add_argument('--steps', type=at_least_two, help='coordinates '
                        '(31 on a line, 21 along each direction\nof a plane)')
    parser.add_argument('--range', type=float, nargs=2, metavar=('LOW',
                                                                 'HIGH'),
                        help='the lowest and the highest (-0.25 1.25 on a '
                        'line,\n-1 1 on a plane)')
    parser.add_argument('--directions', choices=('random', 'eigen'),
                        default='random', help='of a plane (random)')
    args = parser.parse_args(arguments)
    args.range = args.range or _RANGE[args.kind]
    args.steps = args.steps or _STEPS[args.kind]
    require(args.range[0] < args.range[1], f'--range {args.range[0]:g} '
            f'{args.range[1]:g} is empty: give the lowest first.')
    if args.kind == 'line':
        require(len(args.checkpoints) > 1, 'A line has two ends: name '
                'another checkpoint, or ask for --kind plane.')
    else:
        require(len(args.checkpoints) <= LIMIT, 'Planes around '
                f'{len(args.checkpoints)} checkpoints do not fit on a page: '
                f'name {LIMIT} at most.')
    return args


def lines(args: argparse.Namespace, compared: Comparison,
          bar: Progress) -> tuple[list[float], list[dict[str, Any]]]:
    """The lines from the first checkpoint to the others."""
    places = grid(args.range, args.steps, (0., 1.))
    states = [state_of(compared.model) for _ in compared.each()]
    check_states(states, list(map(str, args.checkpoints)))
    found = []
    for label, state in zip(compared.labels[1:], states[1:]):
        name = f'{compared.labels[0]} to {label}'
        task = bar.add_task(name, total=len(places))
        found.append(dict(name=name, **walk(
            compared.objective, states[0], state, places,
            partial(bar.advance, task))))
    return places, found


def planes(args: argparse.Namespace, compared: Comparison,
           bar: Progress) -> tuple[list[float], list[dict[str, Any]]]:
    """The planes around all checkpoints."""
    places = grid(args.range, args.steps, (0., ))
    objective, found = compared.objective, []
    for label, _ in compared.each():
        task = bar.add_task(f'{label}: directions', total=None)
        advance = partial(bar.advance, task)
        more: dict[str, Any] = {}
        directions: list[Weights]
        if args.directions == 'eigen':
            more['eigenvalues'], directions = eigenvalues(
                objective, 2, args.seed, advance)
        else:
            directions = [random_direction(objective.weights(), seed)
                          for seed in (2 * args.seed, 2 * args.seed + 1)]
        bar.reset(task, total=len(places)**2, description=label)
        found.append(dict(name=label, **more, **survey(
            objective, (directions[0], directions[1]), places, advance)))
    return places, found


def main(arguments: Sequence[str]) -> None:
    args = parse_args(arguments)
    check_plotly()
    cfg = config_of(args)
    with scope_of(cfg), loading_as(args), progress() as bar:
        compared = Comparison(args, cfg)
        is_line = args.kind == 'line'
        if not is_line and args.directions == 'eigen':
            make_hessian(compared.objective)  # is there what it needs?
        places, found = (lines if is_line else planes)(args, compared, bar)
    result = dict(
        settings=dict(
            **compared.settings(args), kind=args.kind,
            directions=None if is_line else args.directions,
            note=compared.objective.note + f' {STATISTICS}' * is_line),
        files=list(map(str, args.checkpoints)), places=places,
        landscapes=found)
    out: Path = folder_of(args, 'landscape')
    parts = tables(result)
    write_summary(out, parts, ['python', *sys.argv], **result)
    plot(result, out / 'landscape.png')
    write_page(result, out / 'landscape.html')
    show(parts, out, 'summary.md', 'summary.json', 'landscape.png',
         'landscape.html')
