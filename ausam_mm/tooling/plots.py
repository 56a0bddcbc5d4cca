"""What benchmark.py shows: the rows of a table, and a figure."""

import textwrap
from pathlib import Path
from typing import Dict, List, Tuple

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


def parts_of(result: dict) -> Tuple[str, List[Dict[str, str]], str]:
    """Title, rows and legend of a config's table."""
    rows = result['rows']
    return title(result), [cells_of(row) for row in rows], legend(rows)


def cells_of(row: dict) -> Dict[str, str]:
    """A row of the tables, by the head of its column."""
    def times(timed, mark=''):
        low, high = timed['quartiles']
        return {f'step{mark}\n[ms]': f'{timed["milliseconds"]:.1f}',
                f'ratio{mark}': f'{timed["ratio"]:.2f}',
                f'quartiles{mark}': f'{low:.2f}-{high:.2f}'}

    per_step = row['samples_backpropagated'] / row['steps']
    cells = {'wrapper': row['setting'], **times(row),
             'passes': f'{row["passes"]:.2f}', 'cost': f'{row["cost"]:.2f}',
             'samples': f'{per_step:.1f}'}
    if 'with_loader' in row:
        cells.update(times(row['with_loader'], '*'))
    else:  # both would leave the settings no room
        cells['mean'] = f'{row["mean"]:.2f}'
    if 'peak_mib' in row:
        cells['peak\n[MiB]'] = f'{row["peak_mib"]:.0f}'
    return cells


def legend(rows: List[dict]) -> str:
    """What the columns are."""
    text = (f'ratio: to {rows[0]["setting"]} in the same round, median; '
            'passes: samples back-propagated a sample loaded; cost: the same, '
            'where a sample that only went forwards counts a third; samples: '
            'back-propagated in a step')
    if 'with_loader' in rows[0]:
        text += '; *: with the data loader'
    else:
        text += '; mean: ratio of the times of all rounds'
    return f'{text}.'


def draw(results: List[dict], path: Path) -> None:
    """Draws the ratios of all rounds, with the costs beside them."""
    heights = [1.2 + 0.45 * len(result['rows']) for result in results]
    figure, axes = plt.subplots(
        len(results), 1, figsize=(9, sum(heights)), squeeze=False,
        height_ratios=heights, layout='constrained')
    for axis, result in zip(axes[:, 0], results):
        rows = result['rows']
        timed = {'': (rows, 'tab:blue')}
        if 'with_loader' in rows[0]:
            timed[' with loader'] = (
                [row['with_loader'] for row in rows], 'tab:orange')
        width = 0.6 / len(timed)
        for i, (label, (parts, color)) in enumerate(timed.items()):
            y = np.arange(len(rows)) + (i - (len(timed) - 1) / 2) * width
            low, high = np.array([part['quartiles'] for part in parts]).T
            axis.barh(y, high - low, 0.8 * width, low, color=color, alpha=0.5,
                      edgecolor='black', label=f'quartiles{label}')
            axis.hlines(y, [min(part['ratios']) for part in parts],
                        [max(part['ratios']) for part in parts],
                        color='black', linewidth=1)
            axis.plot([part['ratio'] for part in parts], y, 'k.',
                      label=None if i else 'median')
        # Costs are those of a plain step, ratios are to the first wrapper.
        axis.plot([row['cost'] / rows[0]['cost'] for row in rows],
                  range(len(rows)), '|', color='tab:red', markersize=24,
                  markeredgewidth=2, label='theoretical cost')
        axis.axvline(1, color='grey', linewidth=0.8, zorder=0)
        axis.set_yticks(range(len(rows)), [
            textwrap.fill(row['setting'], 30) for row in rows])
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.grid(axis='x', alpha=0.3)
        axis.set_title(title(result), fontsize=10)
        axis.set_xlabel(f'step time, ratio to {rows[0]["setting"]}')
        axis.legend(fontsize=8, markerscale=0.5, loc='center left',
                    bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def title(result: dict) -> str:
    """What was run, in a line."""
    return (f'{result["config"]}: batch {result["batch_size"]}, inputs '
            f'{result["inputs"]}, {result["rounds"]} rounds of '
            f'{result["block"]}')
