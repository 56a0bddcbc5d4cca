"""Tables and figures of lines and planes through the space of weights."""

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..tooling.plots import label_logarithmic
from ..tooling.reports import Parts, Row

_COLUMNS = 3
_LEVELS = 24


def check_plotly() -> None:
    """Sees whether pages can be written, before anything is computed.

    Raises:
        ValueError: If plotly is not installed.
    """
    _plotly('graph_objects.Figure')


def _plotly(*names: str) -> list[Any]:
    """Things of plotly, which has no annotations."""
    found = []
    for name in names:
        module, _, name = name.rpartition('.')
        try:
            library = import_module(f'plotly.{module}')
        except ImportError as error:
            raise ValueError(
                'The interactive page needs plotly, which is not installed: '
                'pip install plotly.') from error
        found.append(getattr(library, name))
    return found


# -- tables --


def tables(result: dict[str, Any]) -> list[Parts]:
    """What a line or a plane has at its marked places, and its extremes."""
    settings, places = result['settings'], result['places']
    is_line = settings['kind'] == 'line'
    cells = _line_cells if is_line else _plane_cells
    legend = (f'{settings["samples"]} training samples in batches of '
              f'{settings["batch_size"]}, augmented once. '
              f'{settings["note"]}')
    if is_line:
        legend += (' barrier: by how much the loss between the checkpoints '
                   'exceeds the line between their losses, at most.')
    elif settings['directions'] == 'random':
        legend += (' Random directions, filters as long as those of the '
                   'checkpoint; parameters of one dimension stay.')
    else:
        legend += (' Eigenvectors of the two largest eigenvalues, of '
                   'length 1.')
    if not is_line:
        legend += (' flat: the part of the plane where the loss is at most '
                   'twice the highest loss at a center, the same for all.')
    bound = 2 * max(_at(each['loss'], places) for each in
                    result['landscapes']) if not is_line else 0.
    return [('The loss along lines' if is_line else 'The loss on planes', [
        cells(each, places, bound) for each in result['landscapes']], legend)]


def _line_cells(line: dict[str, Any], places: list[float],
                bound: float) -> Row:
    loss, start, end = line['loss'], places.index(0.), places.index(1.)
    cells = {'line': line['name'], 'loss\nat 0': f'{loss[start]:.3g}',
             'at 1': f'{loss[end]:.3g}',
             'highest\nbetween': f'{max(loss[start:end + 1]):.3g}',
             'barrier': f'{barrier(loss, places):.3g}'}
    accuracy = line['accuracy']
    if accuracy[start] is not None:
        between = [each for each in accuracy[start:end + 1]
                   if each is not None]
        cells.update({
            'accuracy\nat 0 [%]': f'{100 * accuracy[start]:.1f}',
            'at 1 [%]': f'{100 * accuracy[end]:.1f}', 'lowest\nbetween [%]':
            f'{100 * min(between):.1f}'})
    return cells


def barrier(loss: Sequence[float], places: Sequence[float]) -> float:
    """By how much the loss between 0 and 1 exceeds the line from 0 to 1."""
    start, end = loss[places.index(0.)], loss[places.index(1.)]
    return max(value - (1 - t) * start - t * end
               for t, value in zip(places, loss) if 0 <= t <= 1)


def _plane_cells(plane: dict[str, Any], places: list[float],
                 bound: float) -> Row:
    loss = np.array(plane['loss'])
    cells = {'checkpoint': plane['name'],
             'loss at the\ncenter': f'{_at(loss, places):.3g}',
             'median': f'{float(np.median(loss)):.3g}',
             'highest': f'{float(loss.max()):.3g}',
             'flat [%]': f'{100 * float((loss <= bound).mean()):.0f}'}
    accuracy = _at(plane['accuracy'], places)
    if accuracy is not None:
        cells['accuracy at\nthe center [%]'] = f'{100 * accuracy:.1f}'
    if 'eigenvalues' in plane:
        cells['eigenvalues'] = ' '.join(f'{value:.3g}'
                                        for value in plane['eigenvalues'])
    return cells


def _at(values: Any, places: list[float]) -> Any:
    """The value at a plane's center."""
    center = places.index(0.)
    return values[center][center]


# -- pictures --


def has_accuracy(landscapes: Sequence[dict[str, Any]]) -> bool:
    """Whether the model is a classifier."""
    return any(each is not None
               for each in np.ravel(landscapes[0]['accuracy']))


def percents(ratios: Sequence[float | None]) -> list[float]:
    """Ratios in percent, NaN where there is none."""
    return [float('nan') if each is None else 100 * each for each in ratios]


def _shape(number: int) -> tuple[int, int]:
    columns = min(number, _COLUMNS)
    return math.ceil(number / columns), columns


def _bounds(landscapes: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The lowest and highest finite loss of all, above 0."""
    values: NDArray[Any] = np.concatenate(
        [np.ravel(each['loss']) for each in landscapes])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(values.min()), float(values.max())) if len(
        values) else (0.1, 1.)
    return low, max(high, low * 1.01)


def plot(result: dict[str, Any], path: Path) -> None:
    """Draws lines in one panel, or a panel with contours for each plane."""
    if result['settings']['kind'] == 'line':
        _plot_lines(result, path)
    else:
        _plot_planes(result, path)


def _plot_lines(result: dict[str, Any], path: Path) -> None:
    lines, places = result['landscapes'], result['places']
    with_accuracy = has_accuracy(lines)
    figure = Figure(figsize=(9, 6.4 if with_accuracy else 3.8),
                    layout='constrained')
    axes = figure.subplots(1 + with_accuracy, 1, sharex=True, squeeze=False)
    for line in lines:
        axes[0, 0].plot(places, line['loss'], '.-', markersize=4,
                        label=line['name'])
        if with_accuracy:
            axes[1, 0].plot(places, percents(line['accuracy']), '.-',
                            markersize=4)
    for axis, name in zip(axes[:, 0], ('loss', 'accuracy [%]')):
        for end in (0, 1):
            axis.axvline(end, color='grey', linewidth=0.8, zorder=0)
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[0, 0].set_yscale('log')
    label_logarithmic(axes[0, 0].yaxis)
    axes[-1, 0].set_xlabel('place on the line')
    figure.legend(fontsize=8, loc='outside upper center', ncols=2)
    figure.savefig(path, dpi=100)


def _plot_planes(result: dict[str, Any], path: Path) -> None:
    planes, places = result['landscapes'], result['places']
    low, high = _bounds(planes)
    levels = np.geomspace(low, high, _LEVELS)
    rows, columns = _shape(len(planes))
    figure = Figure(figsize=(3.1 * columns + 1, 2.9 * rows + 0.3),
                    layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True,
                           sharey=True)
    norm = LogNorm(low, high)
    colors: Any = None
    for axis in grid.flat[len(planes):]:
        axis.set_axis_off()
    for axis, plane in zip(grid.flat, planes):
        loss = np.clip(np.nan_to_num(plane['loss'], nan=high), low, high)
        colors = axis.contourf(places, places, loss, levels, norm=norm,
                               cmap='viridis')
        axis.contour(places, places, loss, levels, norm=norm, colors='white',
                     linewidths=0.3)
        axis.plot(0, 0, '+', color='tab:red', markersize=9)
        axis.set_title(plane['name'], fontsize=9)
        axis.tick_params(labelsize=8)
        axis.set_aspect('equal')
    bar = figure.colorbar(colors, ax=grid, label='loss')
    label_logarithmic(bar.ax.yaxis)
    figure.savefig(path, dpi=100)


# -- the page --


def write_page(result: dict[str, Any], path: Path) -> None:
    """Writes a page that needs no network: lines, or a scene for each plane.

    Args:
        result (dict): What summary.json has.
        path (Path): The file, of some 5 MB.
    """
    figure = (_line_page if result['settings']['kind'] == 'line'
              else _plane_page)(result)
    figure.write_html(str(path), include_plotlyjs=True)


def _line_page(result: dict[str, Any]) -> Any:
    make_subplots, scatter = _plotly('subplots.make_subplots',
                                     'graph_objects.Scatter')
    lines, places = result['landscapes'], result['places']
    with_accuracy = has_accuracy(lines)
    figure = make_subplots(1 + with_accuracy, 1, shared_xaxes=True)
    for i, line in enumerate(lines):
        style = dict(x=places, name=line['name'], legendgroup=line['name'],
                     marker=dict(color=_color(i)), mode='lines+markers')
        figure.add_trace(scatter(y=line['loss'], **style), 1, 1)
        if with_accuracy:
            figure.add_trace(scatter(
                y=percents(line['accuracy']), showlegend=False, **style),
                2, 1)
    for end in (0, 1):
        figure.add_vline(end, line=dict(color='grey', width=1))
    figure.update_yaxes(title='loss', type='log', row=1)
    figure.update_yaxes(title='accuracy [%]', row=1 + with_accuracy,
                        **({} if with_accuracy else dict(title='loss')))
    figure.update_xaxes(title='place on the line', row=1 + with_accuracy)
    return figure


def _color(i: int) -> str:
    colors: list[str] = _plotly('colors.DEFAULT_PLOTLY_COLORS')[0]
    return colors[i % len(colors)]


def _plane_page(result: dict[str, Any]) -> Any:
    make_subplots, surface = _plotly('subplots.make_subplots',
                                     'graph_objects.Surface')
    planes, places = result['landscapes'], result['places']
    rows, columns = _shape(len(planes))
    low, high = np.log10(_bounds(planes))
    figure = make_subplots(
        rows, columns, specs=[[dict(type='surface')] * columns] * rows,
        subplot_titles=[plane['name'] for plane in planes],
        horizontal_spacing=0.01, vertical_spacing=0.04)
    ticks = [tick for tick in range(math.floor(low), math.ceil(high) + 1)
             if low <= tick <= high]
    bar = dict(title='loss', tickvals=ticks,
               ticktext=[f'{10.**tick:g}' for tick in ticks])
    for i, plane in enumerate(planes):
        loss = np.array(plane['loss'])
        figure.add_trace(surface(
            x=places, y=places, z=loss, customdata=plane['accuracy'],
            surfacecolor=np.log10(np.clip(loss, 10**low, 10**high)),
            cmin=low, cmax=high, colorscale='Viridis', colorbar=bar,
            showscale=i == 0, name='',
            hovertemplate='(%{x:.2f}, %{y:.2f})<br>loss %{z:.4g}'
            + '<br>accuracy %{customdata:.1%}' * has_accuracy(planes)),
            i // columns + 1, i % columns + 1)
    figure.update_scenes(
        xaxis_title='', yaxis_title='', zaxis=dict(
            title='loss', type='log', range=[low, high], dtick=1))
    figure.update_layout(height=480 * rows, margin=dict(
        l=10, r=10, t=40, b=10))
    return figure
