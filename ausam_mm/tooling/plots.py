"""What the figures of tools have in common."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter


def label_logarithmic(scale: Axis) -> None:
    """Numbers such as 0.1, 0.2, 0.5, 1 on a logarithmic scale."""
    scale.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    scale.set_major_formatter(FormatStrFormatter('%g'))
    scale.set_minor_formatter(NullFormatter())


def plot_ratios(results: list[dict[str, Any]], path: Path, label: str,
                title_of: Callable[[dict[str, Any]], str],
                draw: Callable[[Axes, list[dict[str, Any]]], None],
                marks: Callable[[list[dict[str, Any]]], list[float]],
                mark: str) -> None:
    """Draws ratios of times to the first setting, a panel for each config.

    ``results`` are those of summary.json; ``draw`` draws the ratios of rows
    into axes at y = 0, 1, ..., and ``marks`` is what each is seen beside,
    named ``mark``.
    """
    heights = [1.2 + 0.5 * len(result['rows']) for result in results]
    figure = Figure(figsize=(10, sum(heights)), layout='constrained')
    axes = figure.subplots(len(results), 1, squeeze=False,
                           height_ratios=heights)
    for axis, result in zip(axes[:, 0], results):
        rows = result['rows']
        draw(axis, rows)
        axis.plot(marks(rows), range(len(rows)), '|', color='tab:red',
                  markersize=24, markeredgewidth=2, label=mark)
        axis.axvline(1, color='grey', linewidth=0.8, zorder=0)
        axis.set_yticks(range(len(rows)), [
            textwrap.fill(row['setting'], 42) for row in rows], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.grid(axis='x', alpha=0.3)
        axis.set_title(title_of(result), fontsize=10)
        axis.set_xlabel(f'{label}, ratio to {rows[0]["setting"]}')
        axis.legend(fontsize=8, markerscale=0.5, loc='center left',
                    bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)
