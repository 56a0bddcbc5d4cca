"""Tables and the figure of the sharpness of minima."""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ..tooling.plots import label_logarithmic
from ..tooling.reports import Parts, Row
from .gradients import rank_correlation

Figures = dict[str, Any]

_COLUMNS = 3
# From this ratio on a scale is logarithmic.
_DECADE = 10
_MEASURES: dict[str, tuple[str, Callable[[Figures], Any]]] = {
    'loss': ('loss', lambda one: one['loss']),
    'eigenvalue': ('largest\neigenvalue', lambda one: max(
        one.get('eigenvalues') or [None])),
    'trace': ('trace', lambda one: one.get('trace')),
    'one_step': ('one\nstep', lambda one: one['one_step']),
    'maximum': ('in the\nball', lambda one: one['maximum']),
    'm_sharpness': ('sharpness\nof m', lambda one: one.get(
        'm_sharpness', {}).get('maximum')),
}


def values_of(checkpoints: Sequence[Figures]) -> dict[str, list[float]]:
    """The values of each measure that there is, by its name."""
    found = {name: [get(one) for one in checkpoints]
             for name, (_, get) in _MEASURES.items()}
    return {name: values for name, values in found.items()
            if None not in values}


def groups_of(checkpoints: Sequence[Figures]) -> dict[str, list[int]]:
    """The places of the checkpoints of each name."""
    groups: dict[str, list[int]] = {}
    for i, one in enumerate(checkpoints):
        groups.setdefault(one['name'], []).append(i)
    return groups


def correlations(checkpoints: Sequence[Figures]) -> dict[str, Any] | None:
    """Spearman's rank correlation of each measure with the results.

    Returns:
        dict, optional: By measure, ``all`` over the checkpoints, and
        ``within``, the mean of those over the checkpoints of one name; each
        is None where ranks say nothing. None without results.
    """
    results = [one['value'] for one in checkpoints]
    if None in results:
        return None
    found = {}
    groups = groups_of(checkpoints).values()
    for measure, values in values_of(checkpoints).items():

        def over(places: Sequence[int],
                 values: list[float] = values) -> float | None:
            return rank_correlation(
                torch.tensor([values[i] for i in places]).double(),
                torch.tensor([results[i] for i in places]).double())

        within = [rank for rank in map(over, groups) if rank is not None]
        found[measure] = dict(
            all=over(range(len(values))),
            within=statistics.fmean(within) if within else None)
    return found


def tables(result: dict[str, Any]) -> list[Parts]:
    """Means of the checkpoints of one name, all checkpoints, correlations."""
    checkpoints, settings = result['checkpoints'], result['settings']
    groups = groups_of(checkpoints)
    parts: list[Parts] = []
    if len(groups) < len(checkpoints):
        parts.append((
            'Sharpness, mean and standard deviation over checkpoints', [
                _means(name, [checkpoints[i] for i in places])
                for name, places in groups.items()], ''))
    parts.append(('Sharpness', [_cells(one) for one in checkpoints],
                  _legend(settings)))
    found = result['correlations']
    if found:
        parts.append((
            'Rank correlation with the result', [{
                'over': title, **{
                    _MEASURES[measure][0]: _rank(ranks[key])
                    for measure, ranks in found.items()}}
                for key, title in (('all', 'all checkpoints'),
                                   ('within', 'those of one name, mean'))],
            'Spearman.'))
    return parts


def _legend(settings: dict[str, Any]) -> str:
    text = (
        f'{settings["samples"]} training samples in batches of '
        f'{settings["batch_size"]}, augmented once. {settings["note"]} ')
    if settings['top']:
        text += 'eigenvalues: the largest of the Hessian. '
    if settings['trace_samples']:
        text += (f'trace: of the Hessian, by {settings["trace_samples"]} '
                 'random vectors, with its standard error. ')
    text += (
        f'one step, in the ball: growth of the loss at w + rho * g / ||g|| '
        f'and the largest found in {settings["steps"]} steps within rho = '
        f'{settings["rho"]:g}.')
    if settings['m']:
        text += (' sharpness of m: the mean of the latter over sub-batches of '
                 f'{settings["m"]} samples.')
    return text


def _rank(value: float | None) -> str:
    return 'none' if value is None else f'{value:+.2f}'


def _number(value: float) -> str:
    return f'{value:.3g}'


def _cells(one: Figures) -> Row:
    """A checkpoint."""
    cells = {'checkpoint': one['checkpoint']}
    if one['value'] is not None:
        cells['result'] = f'{one["value"]:.2f}'
    cells['loss'] = _number(one['loss'])
    if one.get('eigenvalues'):
        cells['eigenvalues'] = ' '.join(map(_number, one['eigenvalues']))
    if 'trace' in one:
        cells['trace'] = f'{one["trace"]:.3g} ± {one["trace_error"]:.2g}'
    for measure in ('one_step', 'maximum', 'm_sharpness'):
        head, get = _MEASURES[measure]
        if get(one) is not None:
            cells[head] = _number(get(one))
    return cells


def _means(name: str, checkpoints: Sequence[Figures]) -> Row:
    """The checkpoints of one name."""
    cells = {'checkpoints': f'{name} ({len(checkpoints)})'}
    results = [one['value'] for one in checkpoints]
    if None not in results:
        cells['result'] = _spread(results, '.2f')
    for measure, values in values_of(checkpoints).items():
        cells[_MEASURES[measure][0]] = _spread(values, '.3g')
    return cells


def _spread(values: Sequence[float], form: str) -> str:
    text = format(statistics.fmean(values), form)
    return text if len(values) == 1 else \
        f'{text} ± {statistics.stdev(values):.2g}'


def _title(measure: str) -> str:
    return _MEASURES[measure][0].replace('\n', ' ')


def plot_sharpness(result: dict[str, Any], path: Path) -> None:
    """Draws a panel for each measure, with a dot for each checkpoint.

    Args:
        result (dict): What summary.json has.
        path (Path): The file.
    """
    checkpoints = result['checkpoints']
    groups = groups_of(checkpoints)
    measures = values_of(checkpoints)
    columns = min(len(measures), _COLUMNS)
    rows = math.ceil(len(measures) / columns)
    figure = Figure(figsize=(2.6 * columns + 1.6,
                             rows * (0.8 + 0.3 * len(groups))),
                    layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in grid.flat[len(measures):]:
        axis.set_axis_off()
    for axis, (measure, values) in zip(grid.flat, measures.items()):
        for y, (color, places) in enumerate(zip(
                (f'C{i % 10}' for i in range(len(groups))),
                groups.values())):
            found = [values[i] for i in places]
            axis.plot(found, [y] * len(found), 'o', color=color, alpha=0.5,
                      markersize=5, markeredgewidth=0)
            if len(found) > 1:
                axis.plot(statistics.fmean(found), y, '|', color=color,
                          markersize=14, markeredgewidth=2)
        if min(values) > 0 and max(values) > _DECADE * min(values):
            axis.set_xscale('log')
            label_logarithmic(axis.xaxis)
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        axis.set_title(_title(measure), fontsize=9)
    for axis in grid[:, 0]:
        axis.set_yticks(range(len(groups)), list(groups), fontsize=9)
        axis.set_ylim(len(groups) - 0.5, -0.5)
    figure.savefig(path, dpi=100)
