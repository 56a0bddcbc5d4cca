"""Tables and figures of the gradients of samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..tooling.plots import label_logarithmic
from ..tooling.reports import Parts, Row
from .selections import WAYS

# A bias up to this many times what chance makes is in brackets.
_CLEAR = 1.5
_SCORES = dict(dlp='DLP', adlp='ADLP', losses='loss')
_MEASURES = dict(bias='bias', variance='variance', cosine='cosine',
                 wrong='wrong samples')


def tables(result: dict[str, Any]) -> list[Parts]:
    """The rank correlations, and the selections at each checkpoint."""
    checkpoints = result['checkpoints']
    rows: list[Row] = [{
        'checkpoint': one['checkpoint'],
        **{name: _correlation(one['correlation'][key])
           for key, name in _SCORES.items()},
        'mean loss': f'{one["loss"]:.3f}', 'rho': f'{one["rho"]:.3g}',
        's_max': f'{one["s_max"]:.3g}',
        'in the table': f'{one["known"]}'} for one in checkpoints]
    settings = result['settings']
    parts: list[Parts] = [(
        "Rank correlation with the norm of a sample's gradient", rows,
        f'{settings["samples"]} samples, Spearman. DLP: of this checkpoint; '
        'ADLP: of its table. s_max: of the selections at this time of the '
        f'training. {settings["batchnorm"]}')]
    legend = (
        f'{settings["selections"]} selections from each batch of '
        f'{settings["batch_size"]}. In units of the norm of the full '
        "batch's gradient g, bias: distance of the sampled gradients' mean "
        'from g, in brackets where it is no more than chance; var.: their '
        'mean squared distance from their mean. cos.: their mean cosine '
        'with g.')
    if result['wrong'] is not None:
        legend += (' wrong: percent of the selected samples that have a '
                   f'wrong label; of all {100 * result["wrong"]:.1f}.')
    for one in checkpoints:
        parts.append((f'Sampled gradients, {one["checkpoint"]}', [
            _cells(way, [row for row in one['selections']
                         if row['way'] == way]) for way in WAYS], ''))
    title, rows, _ = parts[-1]
    return [*parts[:-1], (title, rows, legend)]


def _correlation(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'


def _cells(way: str, rows: list[dict[str, Any]]) -> Row:
    """A way of selecting at all ratios."""

    def bias(row: dict[str, Any]) -> str:
        text = f'{row["bias"]:.2f}'
        return text if row['bias'] > _CLEAR * row['chance'] else f'({text})'

    cells = {'selected by': way}
    for name, text in (
            ('bias', bias), ('var.', lambda row: f'{row["variance"]:.2f}'),
            ('cos.', lambda row: f'{row["cosine"]:.2f}'),
            ('wrong', lambda row: f'{100 * row["wrong"]:.0f}')):
        if name != 'wrong' or 'wrong' in rows[0]:
            cells.update({f'{name}\n{row["ratio"]:g}': text(row)
                          for row in rows})
    return cells


def plot_scatter(checkpoints: list[dict[str, Any]],
                 samples: list[dict[str, list[Any]]],
                 wrong: list[bool] | None, path: Path) -> None:
    """Draws scores over gradient norms, a row for each checkpoint.

    Args:
        checkpoints (list[dict]): The figures of each.
        samples (list[dict]): What there is of each sample at each of them.
        wrong (list[bool], optional): Which samples have a wrong label.
        path (Path): The file.
    """
    figure = Figure(figsize=(11, 0.8 + 2.9 * len(samples)),
                    layout='constrained')
    grid = figure.subplots(len(samples), len(_SCORES), squeeze=False)
    for axes, one, of in zip(grid, checkpoints, samples):
        marked = wrong or [False] * len(of['norms'])
        for axis, (key, name) in zip(axes, _SCORES.items()):
            for is_wrong, color, label in (
                    (False, 'tab:blue', 'true label'),
                    (True, 'tab:red', 'wrong label')):
                # Zeros have no place on a logarithmic scale.
                points = [(x, y) for x, y, w in zip(of['norms'], of[key],
                                                    marked)
                          if w == is_wrong and x and y]
                if points:
                    axis.plot(*zip(*points), '.', color=color, markersize=4,
                              alpha=0.5, label=label, markeredgewidth=0)
            axis.set_xscale('log')
            axis.set_yscale('log')
            for scale in (axis.xaxis, axis.yaxis):
                label_logarithmic(scale)
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=8)
            rank = _correlation(one['correlation'][key]) or 'none'
            axis.set_title(f'{one["checkpoint"]}: rank correlation {rank}',
                           fontsize=9)
            axis.set_ylabel(name)
    for axis in grid[-1]:
        axis.set_xlabel("norm of the sample's gradient")
    if wrong:
        grid[0][0].legend(fontsize=8, markerscale=2)
    figure.savefig(path, dpi=100)


def plot_selections(result: dict[str, Any], path: Path) -> None:
    """Draws bias, variance, cosine and wrong samples over the checkpoints."""
    checkpoints, ratios = result['checkpoints'], result['settings']['ratios']
    measures = [name for name in _MEASURES
                if name in checkpoints[0]['selections'][0]]
    figure = Figure(figsize=(3.2 * len(ratios) + 2.8, 0.8 + 2.5 * len(
        measures)), layout='constrained')
    grid = figure.subplots(len(measures), len(ratios), squeeze=False,
                           sharex=True, sharey='row')
    for axes, measure in zip(grid, measures):
        for axis, ratio in zip(axes, ratios):
            _plot_measure(axis, checkpoints, measure, ratio)
        axes[0].set_ylabel(_MEASURES[measure])
        if measure == 'wrong' and result['wrong'] is not None:
            for axis in axes:
                axis.axhline(result['wrong'], color='grey', linewidth=0.8,
                             zorder=0)
    for axis, ratio in zip(grid[0], ratios):
        axis.set_title(f'ratio {ratio:g}', fontsize=10)
    for axis in grid[-1]:
        axis.set_xticks(range(len(checkpoints)), [
            one['checkpoint'] for one in checkpoints], fontsize=8,
            rotation=30)
        axis.set_xlim(-0.3, len(checkpoints) - 0.7)
    figure.legend(*grid[0][0].get_legend_handles_labels(), fontsize=9,
                  loc='outside right upper')
    figure.savefig(path, dpi=100)


def _plot_measure(axis: Axes, checkpoints: Sequence[dict[str, Any]],
                  measure: str, ratio: float) -> None:
    """Lines of all ways over the checkpoints."""
    for i, way in enumerate(WAYS):
        rows = [next(row for row in one['selections'] if row['way'] == way
                     and row['ratio'] == ratio) for one in checkpoints]
        values = [row[measure] for row in rows]
        # The highest losses are the same in each selection.
        if measure == 'variance' and max(values) < 1e-9:
            values = [float('nan')] * len(values)
        axis.plot(values, marker='osv^D*xP'[i % 8], markersize=5,
                  color=f'C{i}', linewidth=1.2, label=way, alpha=0.8)
        if measure == 'bias' and way == 'uniform':
            axis.plot([row['chance'] for row in rows], ':', color='grey',
                      label='uniform, by chance')
    if measure in ('bias', 'variance'):
        axis.set_yscale('log')
        label_logarithmic(axis.yaxis)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=8)
