"""Tables and curves of rankings of suspects."""

from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from ..tooling.reports import Parts, Row
from .scores_report import number, percent
from .suspects import curve


def tables(result: dict[str, Any]) -> list[Parts]:
    """How well each ranking finds the wrong labels, and the list's start."""
    parts: list[Parts] = []
    settings = result['settings']
    checkpoints = result['checkpoints']
    if result['wrong'] is not None:
        first, ratio = settings['first'], result['wrong'] / result['samples']
        if len(checkpoints) > 1:
            parts.append(_by_checkpoint(checkpoints))
        rows: list[Row] = [{
            'ranked by': row['ranking'],
            'avg. precision': f'{row["average_precision"]:.3f}',
            'precision [%]': percent(row['precision']),
            'found [%]': percent(row['recall'])}
            for row in checkpoints[-1]['rankings']]
        chance = first / result['samples']
        rows.append({**dict.fromkeys(rows[0], ''), 'ranked by': 'chance',
                     'avg. precision': f'{ratio:.3f}',
                     'precision [%]': percent(ratio),
                     'found [%]': percent(chance)})
        parts.append((
            f'Wrong labels found: {result["wrong"]} of {result["samples"]} '
            f'samples, {checkpoints[-1]["checkpoint"]}', rows,
            'avg. precision: area under the curve of precision and recall. '
            f'Of the first {first} samples, precision: the ratio that is '
            'wrong; found: the ratio of all wrong ones that is among them.'))
    parts.append((
        f'The first {len(result["suspects"])} of the list, ranked by '
        f'{settings["by"]}, {checkpoints[-1]["checkpoint"]}',
        [{'image': one['path'] or f'index {one["index"]}',
          **{key: one[key] for key in ('label', 'prediction')
             if any(each[key] for each in result['suspects'])},
          settings['by']: number(one['value']),
          **({} if one['wrong'] is None else {
              'known to be': 'wrong' if one['wrong'] else 'right'})}
         for one in result['suspects']], ''))
    return parts


def _by_checkpoint(checkpoints: list[dict[str, Any]]) -> Parts:
    """The average precision at each checkpoint, and the mean of all."""
    found = {one['checkpoint']: {row['ranking']: row['average_precision']
                                 for row in one['rankings']}
             for one in checkpoints}
    names = list(dict.fromkeys(
        name for values in found.values() for name in values))
    common = [name for name in names
              if all(name in values for values in found.values())]
    found['mean'] = {name: fmean(values[name] for values in found.values())
                     for name in common}
    return ('Average precision by checkpoint', [{
        'checkpoint': checkpoint, **{
            name.replace(', ', ',\n'): f'{values[name]:.3f}'
            if name in values else '' for name in names}}
        for checkpoint, values in found.items()], '')


def plot_curves(wrong: Tensor, rankings: dict[str, Tensor],
                path: Path) -> None:
    """Draws the curves of precision and recall.

    Args:
        wrong (Tensor): Which samples are wrong, shape (n, ), bool.
        rankings (dict): By name, as :func:`rankings_of` returns them.
        path (Path): The file.
    """
    figure = Figure(figsize=(7.5, 4.5), layout='constrained')
    axis = figure.subplots()
    for name, ranking in rankings.items():
        axis.plot(*curve(wrong, ranking), label=name, linewidth=1.4)
    axis.axhline(float(wrong.double().mean()), color='grey', linewidth=0.8,
                 linestyle=':', label='chance')
    axis.set(xlabel='recall: ratio of the wrong labels found',
             ylabel='precision: ratio of the found that is wrong',
             xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)
