"""What the scores of samples are, how often each was used, and their drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..sampling import SampleHistory
from .gradients import rank_correlation
from .samples import Samples, require_known

QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


@dataclass
class Scores:
    """What a table knows of samples.

    Attributes:
        values (Tensor): The score of each, shape (n, ), float64; NaN where it
            is unknown, -inf for a sample that failed.
        counts (Tensor): How often each was used for it, shape (n, ), int64.
        strangers (int): How many samples of the table are not among them.
    """
    values: Tensor
    counts: Tensor
    strangers: int

    @property
    def known(self) -> Tensor:
        """Which have a finite score, shape (n, ), bool."""
        return self.values.isfinite()


def scores_of(samples: Samples, history: SampleHistory) -> Scores:
    """What a table knows of samples.

    Raises:
        ValueError: If it knows none of them.
    """
    values = history.means(samples.keys)
    require_known(int((~values.isnan()).sum()))
    different = len(np.unique(samples.keys[~values.isnan()].numpy()))
    return Scores(values, history.counts(samples.keys),
                  len(history) - different)


def summarize(samples: Samples, scores: Scores) -> dict[str, Any]:
    """Figures of one checkpoint.

    Returns:
        dict: How many samples are known, unknown and failed; mean and
        quantiles of scores and counts; their rank correlation; figures of
        each group, and of samples with a wrong and a true label.
    """
    values, known = scores.values, scores.known
    groups = [dict(group=name, **_part(samples, scores, samples.groups == i))
              for i, name in enumerate(samples.names)]
    figures: dict[str, Any] = dict(
        samples=len(samples), known=int(known.sum()),
        unknown=int(values.isnan().sum()),
        failed=int((values == -torch.inf).sum()), strangers=scores.strangers,
        score=_distribution(values[known]),
        count=_distribution(scores.counts.double()),
        correlation=rank_correlation(scores.counts.double(), values),
        groups=[group for group in groups if group['samples']])
    if samples.wrong is not None:
        figures['labels'] = [
            dict(label=name, **_part(samples, scores, which))
            for name, which in (('true', ~samples.wrong),
                                ('wrong', samples.wrong))]
    return figures


def compare(first: Scores, second: Scores) -> dict[str, Any]:
    """How scores drift from one checkpoint to another.

    Returns:
        dict: Of the samples that both know: their number, Spearman's rank
        correlation, the ratios of them that are in another tenth of the
        ranks, and two or more tenths away, and the ratio of the highest tenth
        that stays in it. The last are None without samples.
    """
    both = first.known & second.known
    one, other = _tenths(first.values[both]), _tenths(second.values[both])
    moved = (one - other).abs()
    top = one == 9
    return dict(
        samples=int(both.sum()),
        correlation=rank_correlation(first.values, second.values),
        moved=_mean(moved > 0), moved_far=_mean(moved > 1),
        top_kept=_mean(other[top] == 9))


def extremes(scores: Scores, number: int) -> tuple[Tensor, Tensor]:
    """Positions of the samples with the highest and the lowest scores.

    Args:
        scores (Scores): The scores.
        number (int): How many of either; fewer where there are not twice as
            many known scores.

    Returns:
        tuple[Tensor, Tensor]: The highest first, and the lowest first.
    """
    places = scores.known.nonzero().flatten()
    order = places[scores.values[places].argsort(stable=True)]
    number = min(number, len(order) // 2)
    return order.flip(0)[:number], order[:number]


def _part(samples: Samples, scores: Scores, which: Tensor) -> dict[str, Any]:
    """Figures of some of the samples."""
    values = scores.values[which & scores.known]
    found: dict[str, Any] = dict(
        samples=int(which.sum()), median=_median(values), mean=_mean(values),
        count=_mean(scores.counts[which]))
    if samples.wrong is not None:
        found['wrong'] = _mean(samples.wrong[which])
    return found


def _distribution(values: Tensor) -> dict[str, Any]:
    """Mean and quantiles."""
    if not len(values):
        return dict(mean=None, quantiles=[None] * len(QUANTILES))
    return dict(mean=_mean(values),
                quantiles=np.quantile(values.numpy(), QUANTILES).tolist())


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def _median(values: Tensor) -> float | None:
    return float(np.median(values.numpy())) if len(values) else None


def _tenths(values: Tensor) -> Tensor:
    """In which tenth of the ranks each value is, 0 the lowest."""
    places = values.argsort(stable=True)
    ranks = torch.empty_like(places)
    ranks[places] = torch.arange(len(values))
    return ranks * 10 // max(1, len(values))
