"""Tables and pictures of the scores of samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ..tooling.drawing import Image, frame
from ..tooling.reports import Parts, Row
from .samples import Samples
from .scores import QUANTILES, Scores

# Groups in the table and in the picture; all are in summary.json.
_MOST = 20
Gallery = dict[str, list[tuple[Image, str, bool]]]
_COLORS = dict(true='tab:blue', wrong='tab:red')


def tables(result: dict[str, Any]) -> list[Parts]:
    """Distributions, groups and drift."""
    checkpoints, name = result['checkpoints'], result['settings']['scores']
    heads = ['min.', *(f'{100 * q:g} %' for q in QUANTILES[1:-1]), 'max.']
    rows: list[Row] = [{
        'checkpoint': one['checkpoint'],
        'mean': number(one['score']['mean']),
        **{head: number(value)
           for head, value in zip(heads, one['score']['quantiles'])}}
        for one in checkpoints]
    parts: list[Parts] = [(f'Scores ({name})', rows, _state(result))]
    rows = [{
        'checkpoint': one['checkpoint'],
        'mean': number(one['count']['mean']),
        **{head: number(value)
           for head, value in zip(heads, one['count']['quantiles'])},
        'with score': number(one['correlation'])} for one in checkpoints]
    parts.append((
        'How often a sample was used', rows, 'Times in the first pass, which '
        'its score is of. with score: rank correlation.'))
    last = checkpoints[-1]
    if 'labels' in last:
        parts.append(('True and wrong labels', [{
            'checkpoint': one['checkpoint'], **{
                f'{label["label"]}\n{head}': number(label[key])
                for key, head in (('median', 'median'), ('mean', 'mean'),
                                  ('count', 'used'))
                for label in one['labels']}} for one in checkpoints],
            'Scores of samples with a true and with a wrong label, and how '
            'often they were used.'))
    if len(last['groups']) > 1:
        parts.append(_groups(last, result['settings']['grouped']))
    if result['drift']:
        parts.append(('Drift of the scores', [{
            'checkpoints': f'{one["first"]}, {one["second"]}',
            'samples': f'{one["samples"]}',
            'rank corr.': number(one['correlation']),
            'moved [%]': percent(one['moved']),
            'far [%]': percent(one['moved_far']),
            'top kept [%]': percent(one['top_kept'])}
            for one in result['drift']],
            'moved: samples in another tenth of the ranks; far: two or more '
            'tenths away; top kept: of the highest tenth.'))
    return parts


def _state(result: dict[str, Any]) -> str:
    """What the table lacks, in words."""
    one = result['checkpoints'][-1]
    text = (f'{one["samples"]} samples; at {one["checkpoint"]} '
            f'{one["unknown"]} have no score')
    for count, what in (
            (one['failed'], 'have failed: their last loss was not finite'),
            (result['settings']['shared'], 'share the score of an earlier '
             'one, as they have the same identity'),
            (one['strangers'], 'of the table are not in this data set')):
        if count:
            text += f'; {count} {what}'
    return text + '.'


def _groups(one: dict[str, Any], grouped: str) -> Parts:
    groups = sorted(one['groups'], key=lambda group: -(
        group['median'] if group['median'] is not None else -np.inf))
    shown = groups if len(groups) <= _MOST else [
        *groups[:_MOST // 2], *groups[-_MOST // 2:]]
    rows: list[Row] = []
    for group in shown:
        rows.append({
            grouped: group['group'], 'samples': f'{group["samples"]}',
            'median': number(group['median']), 'mean': number(group['mean']),
            'used': number(group['count'])})
        if 'wrong' in group:
            rows[-1]['wrong [%]'] = percent(group['wrong'])
    left = len(groups) - len(shown)
    return (f'Scores by {grouped}, {one["checkpoint"]}', rows,
            'used: how often a sample was, on average.' + (
                f' {left} between them are left out.' if left else ''))


def number(value: float | None) -> str:
    """Three digits, or nothing."""
    return '' if value is None else f'{value:.3g}'


def percent(value: float | None) -> str:
    """A ratio in percent, or nothing."""
    return '' if value is None else f'{100 * value:.1f}'


def plot_scores(samples: Samples, found: Sequence[Scores],
                names: Sequence[str], what: str, path: Path) -> None:
    """Draws distributions, counts and drift, a row for each checkpoint.

    Args:
        samples (Samples): The samples.
        found (Sequence[Scores]): Their scores at each checkpoint.
        names (Sequence[str]): The checkpoints.
        what (str): Name of the scores.
        path (Path): The file.
    """
    figure = Figure(figsize=(12, 0.6 + 2.7 * len(found)),
                    layout='constrained')
    grid = figure.subplots(len(found), 3, squeeze=False)
    for i, (axes, one, name) in enumerate(zip(grid, found, names)):
        plot_distribution(axes[0], samples, one, what)
        _plot_counts(axes[1], samples, one)
        if i:
            _plot_drift(axes[2], found[i - 1], one, names[i - 1], name)
        else:
            _plot_groups(axes[2], samples, found[-1], names[-1])
        axes[0].set_ylabel(f'{name}\nsamples')
    if samples.wrong is not None:
        grid[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def plot_distribution(axis: Axes, samples: Samples, scores: Scores,
                      what: str) -> None:
    """A histogram of the scores, by true and wrong labels if known."""
    parts = _by_label(samples, scores.known)
    _histogram(axis, {label: scores.values[which].numpy()
                      for label, which in parts.items()}, what)


def _histogram(axis: Axes, parts: dict[str, Any], what: str) -> None:
    values = np.concatenate(list(parts.values()))
    positive = values[values > 0]
    # Scores spread over magnitudes; zeros have no place among them.
    spread = len(positive) > 0.9 * len(values) and len(positive) and \
        positive.max() > 30 * positive.min()
    bins: Any = 40
    if spread:
        bins = np.geomspace(positive.min(), positive.max(), 41)
        axis.set_xscale('log')
    elif len(values) and values.max() > values.min():
        bins = np.linspace(values.min(), values.max(), 41)
    for label, part in parts.items():
        if len(part):
            axis.hist(part, bins, alpha=0.6, label=f'{label} label',
                      color=_COLORS[label])
    axis.set_xlabel(what)
    axis.tick_params(labelsize=8)


def _by_label(samples: Samples, which: Tensor) -> dict[str, Tensor]:
    if samples.wrong is None:
        return dict(true=which)
    return dict(true=which & ~samples.wrong, wrong=which & samples.wrong)


def _plot_counts(axis: Axes, samples: Samples, scores: Scores) -> None:
    _histogram_of_counts(axis, {
        label: scores.counts[which] for label, which in
        _by_label(samples, scores.counts >= 0).items()})


def _histogram_of_counts(axis: Axes, parts: dict[str, Tensor]) -> None:
    high = max((int(part.max()) for part in parts.values() if len(part)),
               default=0)
    step = max(1, (high + 1) // 40)
    for label, part in parts.items():
        axis.hist(part.numpy(),
                  (np.arange(0, high + step + 1, step) - 0.5).tolist(),
                  alpha=0.6,
                  color=_COLORS[label])
    axis.set_xlabel('times used')
    axis.tick_params(labelsize=8)


def _plot_groups(axis: Axes, samples: Samples, scores: Scores,
                 name: str) -> None:
    """Boxes of the scores of the first groups."""
    values: list[Any] = []
    labels: list[str] = []
    for i, group in enumerate(samples.names):
        part = scores.values[(samples.groups == i) & scores.known]
        if len(part) and len(labels) < _MOST:
            values.append(part.numpy())
            labels.append(group)
    if not labels:
        axis.axis('off')
        return
    axis.boxplot(values, showfliers=False)
    axis.set_xticks(range(1, len(labels) + 1), labels, fontsize=7,
                    rotation=0 if max(map(len, labels)) < 4 else 90)
    axis.set_xlabel(f'{samples.grouped}, {name}')
    axis.tick_params(axis='y', labelsize=8)


def _plot_drift(axis: Axes, first: Scores, second: Scores, before: str,
                after: str) -> None:
    both = first.known & second.known
    if int(both.sum()) > 1:
        axis.hexbin(*(_ranks(one.values[both]) for one in (first, second)),
                    gridsize=25, cmap='Blues', mincnt=1)
    axis.set_xlabel(f'rank at {before}')
    axis.set_ylabel(f'rank at {after}')
    axis.tick_params(labelsize=8)


def _ranks(values: Tensor) -> Any:
    return values.argsort().argsort().numpy() / max(1, len(values) - 1)


def draw_histograms(scores: Tensor, counts: Tensor, title: str) -> Image:
    """Histograms of scores and counts as an image, RGB, (H, W, 3)."""
    figure = Figure(figsize=(8, 3), layout='constrained')
    axes = figure.subplots(1, 2)
    _histogram(axes[0], dict(true=scores.numpy()), 'score')
    _histogram_of_counts(axes[1], dict(true=counts))
    axes[0].set_ylabel('samples')
    figure.suptitle(title, fontsize=10)
    return image_of(figure)


def image_of(figure: Figure) -> Image:
    """A figure as an image, RGB, shape (H, W, 3)."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw_gallery(rows: Gallery) -> Image:
    """The picture of :func:`plot_gallery` as an image, RGB, (H, W, 3)."""
    return image_of(_gallery(rows))


def plot_gallery(rows: Gallery, path: Path) -> None:
    """Draws samples with a text above each, red frames for wrong labels.

    Args:
        rows (dict): By title the samples: image (RGB), text, and whether the
            label is known to be wrong.
        path (Path): The file.
    """
    _gallery(rows).savefig(path, dpi=100)


def _gallery(rows: Gallery, columns: int = 6) -> Figure:
    heights = [-(-len(samples) // columns) for samples in rows.values()]
    figure = Figure(figsize=(2.1 * columns, 2.75 * sum(heights) + 0.4 * len(
        heights)), layout='constrained')
    parts = figure.subfigures(len(rows), 1, squeeze=False,
                              height_ratios=heights)
    for part, high, (title, samples) in zip(parts[:, 0], heights,
                                            rows.items()):
        part.suptitle(title, fontsize=11)
        axes = part.subplots(high, columns, squeeze=False).flatten()
        for axis in axes:
            axis.axis('off')
        for axis, (image, text, wrong) in zip(axes, samples):
            axis.imshow(frame(image) if wrong else image)
            axis.set_title(text, fontsize=7)
    return figure
