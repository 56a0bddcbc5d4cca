"""What epoch_time.py shows: the rows of a table, and a figure."""

import statistics
import textwrap
from pathlib import Path
from typing import Dict, List, Tuple

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


def parts_of(result: dict) -> Tuple[str, List[Dict[str, str]], str]:
    """Title, rows and legend of a config's table."""
    legend = (f'ratio: to {result["rows"][0]["setting"]} in the same round, '
              'median and range; loader: an epoch of the data loader alone; '
              'decoded, passes: samples that are loaded, and samples that are '
              'back-propagated, in an epoch.')
    return title(result), [cells_of(row) for row in result['rows']], legend


def cells_of(row: dict) -> Dict[str, str]:
    """A row of the tables, by the head of its column."""
    low, high = row['range']
    return {'setting': row['setting'],
            'epoch\n[s]': f'{statistics.median(row["seconds"]):.2f}',
            'ratio': f'{row["ratio"]:.2f}', 'range': f'{low:.2f}-{high:.2f}',
            'loader\n[s]': f'{row["loader_seconds"]:.2f}',
            'decoded': f'{row["decoded"]:,.0f}',
            'passes': f'{row["backpropagated"]:,.0f}'}


def draw(results: List[dict], path: Path) -> None:
    """Draws the ratios of all rounds."""
    heights = [1.2 + 0.5 * len(result['rows']) for result in results]
    figure, axes = plt.subplots(
        len(results), 1, figsize=(10, sum(heights)), squeeze=False,
        height_ratios=heights, layout='constrained')
    for axis, result in zip(axes[:, 0], results):
        rows = result['rows']
        # Times of the loader alone, as shares of the first setting's epoch.
        epoch = statistics.median(rows[0]['seconds'])
        axis.barh(range(len(rows)), [row['ratio'] for row in rows], 0.6,
                  color='tab:blue', alpha=0.4, label='median')
        for i, row in enumerate(rows):
            axis.plot(row['ratios'], [i] * len(row['ratios']), 'k.',
                      label=None if i else 'a round')
        axis.plot([row['loader_seconds'] / epoch for row in rows],
                  range(len(rows)), '|', color='tab:red', markersize=24,
                  markeredgewidth=2, label='loader alone')
        axis.axvline(1, color='grey', linewidth=0.8, zorder=0)
        axis.set_yticks(range(len(rows)), [
            textwrap.fill(row['setting'], 54) for row in rows], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.grid(axis='x', alpha=0.3)
        axis.set_title(title(result), fontsize=10)
        axis.set_xlabel(f'time of an epoch, ratio to {rows[0]["setting"]}')
        axis.legend(fontsize=8, markerscale=0.5, loc='center left',
                    bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def title(result: dict) -> str:
    """What was run, in a line."""
    return (f'{result["config"]}: {result["samples"]:,} samples, batch '
            f'{result["batch_size"]}, {result["num_workers"]} workers, '
            f'{result["epochs"]} rounds')
