"""The figure of quantization_histograms.py."""

from pathlib import Path
from typing import List

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator, NullFormatter  # noqa: E402

# More levels than these would be a grey area.
LINES = 32


def draw(title: str, rows: List[dict], path: Path) -> None:
    """Draws histograms with the levels that values are rounded to.

    Args:
        title (str): What is shown.
        rows (list[dict]): Of each quantised tensor, as ``measure`` returns
            them: weight and input of a layer follow each other.
        path (Path): The PNG file.
    """
    layers = (len(rows) + 1) // 2
    columns = 2 if layers <= 3 else 4
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4 * columns, 2 * lines + 0.9), squeeze=False,
        layout='constrained')
    for axis in axes.flat[len(rows):]:
        axis.set_visible(False)
    for axis, row in zip(axes.flat, rows):
        _panel(axis, row)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel('value / step size', fontsize=9)
    figure.supylabel('share of values', fontsize=9)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _panel(axis: plt.Axes, row: dict) -> None:
    colour = 'tab:blue' if row['tensor'] == 'weight' else 'tab:orange'
    edges = row['edges']
    axis.bar(edges[:-1], row['shares'], [b - a for a, b in zip(
        edges, edges[1:])], align='edge', color=colour, alpha=0.8)
    low, high = row['bounds']
    levels = range(low, high + 1)
    if len(levels) <= LINES:
        for level in levels:
            axis.axvline(level, color='grey', linewidth=0.4, zorder=0)
    else:
        axis.plot(levels, [0.02] * len(levels), '|', color='black',
                  markersize=4, markeredgewidth=0.3,
                  transform=axis.get_xaxis_transform())
    for bound in (low, high):
        axis.axvline(bound, color='tab:red', linestyle='--', linewidth=1)
    # Zeros would dwarf everything else.
    axis.set_yscale('log')
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axis.set_xlim(edges[0], edges[-1])
    axis.tick_params(labelsize=7)
    name = row['layer'] if len(row['layer']) <= 38 else \
        f'…{row["layer"][-37:]}'
    axis.set_title(
        f'{name}\n{row["tensor"]}, {row["bits"]} bits: {row["clipped"]:.1%} '
        f'clipped, {row["used"]} of {len(levels)} levels', fontsize=8)
