"""The data of plots, and the same as tables."""

import math
from collections.abc import Sequence
from typing import Any

from ..tooling.reports import Row
from .comparison import Case, Comparison
from .curves import Line, Point

# What curves can be drawn over: key, name on the switch.
AXES = {'epochs': 'epochs', 'seconds': 'seconds',
        'samples': 'samples back-propagated', 'sgd_steps': 'SGD steps'}
# Points of a line that its table shows.
_ROWS = 20


def figures_of(comparison: Comparison,
               case: Case) -> dict[str, list[dict[str, Any]]]:
    """The figures of a case, by the section that they are in.

    Each has its 'kind', 'data', a 'caption', what it shows in words ('alt'),
    and 'rows', the same as a table.
    """
    rows = case.rows
    where = f', {case.title}' if case.title else ''
    metric = comparison.metric_title
    found: dict[str, list[dict[str, Any]]] = dict(
        accuracy=[], curves=[], cost=[])
    if len(rows) > 1:
        found['accuracy'].append(dict(
            kind='dots', data=_dots(comparison, rows),
            caption=f'{metric}{where}: seeds, their mean, and its 95 % '
            'interval', alt=f'{metric} of {len(rows)} settings{where}. '
            + ' '.join(f'{row["setting"]}: {number(row["mean"])}.'
                       for row in rows),
            rows=[{'setting': row['setting'], metric: number(row['mean']),
                   'seeds': ', '.join(
                       f'{seed}: {number(value)}'
                       for seed, value in row['values'].items())}
                  for row in rows]))
    for key, lines in case.curves.items():
        if not lines:
            continue
        name = metric if key == comparison.metric else key
        found['curves'].append(dict(
            kind='curves', data=_curves(comparison, name, lines),
            caption=f'{name}{where}', alt=f'{name} during the training'
            f'{where}, {len(lines)} lines. ' + ' '.join(
                f'{line.name} ends at {number(line.points[-1]["value"])}.'
                for line in lines),
            rows=_points(comparison, name, lines)))
    costs = {cost.setting: cost.ratio for cost in case.costs if cost.ratio}
    there = [row for row in rows if row['setting'] in costs]
    if len(there) > 1:
        found['cost'].append(dict(
            kind='scatter', data=dict(
                _dots(comparison, there), x=[
                    costs[row['setting']] for row in there],
                x_title=f'cost, in that of {comparison.baseline}'),
            caption=f'{metric} over the cost{where}, with 95 % intervals',
            alt=f'{metric} over the cost{where}. ' + ' '.join(
                f'{row["setting"]}: {number(row["mean"])} at '
                f'{costs[row["setting"]]:.2f}.' for row in there),
            rows=[{'setting': row['setting'],
                   'cost': f'{costs[row["setting"]]:.2f}',
                   metric: number(row['mean'])} for row in there]))
    return found


def _dots(comparison: Comparison,
          rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    baseline = next((row['mean'] for row in rows
                     if row['setting'] == comparison.baseline), None)
    return dict(
        title=comparison.metric_title, baseline=baseline,
        rows=[dict(name=row['setting'], setting=row['of'],
                   color=comparison.color(row['of']),
                   values=list(row['values'].values()), mean=row['mean'],
                   ends=row['interval']) for row in rows])


def _curves(comparison: Comparison, name: str,
            lines: Sequence[Line]) -> dict[str, Any]:
    return dict(title=name, lines=[dict(
        name=line.name, setting=line.setting, finished=line.finished,
        color=comparison.color(line.setting),
        y=[point['value'] for point in line.points],
        x={axis: [point[axis] for point in line.points] for axis in AXES})
        for line in lines])


def _points(comparison: Comparison, name: str,
            lines: Sequence[Line]) -> list[Row]:
    """Some points of each line, the last among them."""
    return [{
        'line': line.name, **{
            (comparison.x_title if axis == 'epochs' else title):
            number(point[axis]) for axis, title in AXES.items()},
        name: number(point['value'])}
        for line in lines for point in _some(line.points)]


def _some(points: Sequence[Point]) -> list[Point]:
    every = math.ceil(len(points) / _ROWS)
    return list(points[::-1][::every])[::-1]


def number(value: float | None) -> str:
    """A number for people."""
    if value is None:
        return ''
    if abs(value) >= 1000:
        return f'{value:,.0f}'
    return f'{value:.4g}'


def rounded(value: Any) -> Any:
    """Numbers with six digits, and null for what is not finite."""
    if isinstance(value, float):
        return float(f'{value:.6g}') if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(part) for part in value]
    return value
