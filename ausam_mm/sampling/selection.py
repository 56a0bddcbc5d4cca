"""Probabilities and selections: pure functions of tensors on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import is_number, require

NO_SAMPLES = torch.empty(0, dtype=torch.int64)


@dataclass
class Selection:
    """The samples of one batch that the two passes of a step see.

    Attributes:
        size (int): Number of samples b of the batch it was made from.
        descent (Tensor): Positions in the batch that the second pass sees,
            ascending, shape (k2, ), int64.
        ascent (Tensor): Positions in the batch that the first pass sees, a
            part of ``descent`` unless ``disjoint``, ascending, shape (k1, ),
            int64.
        descent_weights (Tensor, optional): What each loss of the second pass
            is multiplied with, 1 / (b * pi), shape (k2, ). None leaves the
            model's own batch loss. Defaults to None.
        ascent_weights (Tensor, optional): The same of the first pass, shape
            (k1, ). Defaults to None.
        effective_size (float, optional): How many samples share the
            probability, (sum q)^2 / sum q^2, between 1 and b. Defaults to
            None, for b.
        loaded (int): Samples of the batch that were loaded, to which the
            positions refer. Defaults to 0, for b.
        keys (Tensor): Keys of the loaded samples, shape (loaded, ), int64
            (see :func:`sample_keys`). Defaults to none of them.
        origins (Tensor): Their numbers in the dataset, shape (loaded, ),
            int64 (see :class:`Origins`). Defaults to none of them.
        disjoint (bool): Whether no sample is seen by both passes. Defaults to
            False.
    """
    size: int
    descent: Tensor
    ascent: Tensor
    descent_weights: Tensor | None = None
    ascent_weights: Tensor | None = None
    effective_size: float | None = None
    loaded: int = 0
    keys: Tensor = NO_SAMPLES
    origins: Tensor = NO_SAMPLES
    disjoint: bool = False

    def __post_init__(self) -> None:
        self.loaded = self.loaded or self.size

    @classmethod
    def full_batch(cls, size: int) -> Selection:
        """Both passes see all samples."""
        return cls(size, torch.arange(size), torch.arange(size))

    @property
    def same_samples(self) -> bool:
        """Whether both passes see the same samples."""
        return not self.disjoint and len(self.ascent) == len(self.descent)

    @property
    def seen(self) -> Tensor:
        """Positions in the batch that either pass sees, ascending."""
        if not self.disjoint:
            return self.descent
        return torch.cat([self.ascent, self.descent]).sort().values

    @property
    def ascent_in_descent(self) -> Tensor:
        """Positions of the first pass's samples among the second's."""
        return torch.searchsorted(self.descent, self.ascent)


def ratio_pair(alpha: Any) -> tuple[float, float]:
    """The ratios of the first and of the second pass.

    Args:
        alpha (float | Sequence[float]): A ratio for both, or the pair
            (ascent, descent).

    Raises:
        ValueError: If it is no such ratio or pair.
    """
    pair = (alpha, alpha) if is_number(alpha) else alpha
    try:
        ascent, descent = pair
        valid = 0 < ascent <= descent <= 1
    except (TypeError, ValueError):
        valid = False
    require(
        valid,
        f'alpha={alpha!r} must be a ratio in (0, 1], or a pair (ascent, '
        'descent) of them with ascent <= descent, for example 0.5 or '
        '(0.25, 0.75).')
    return float(ascent), float(descent)


def num_selected(ratio: float, size: int, least: int = 1) -> int:
    """How many samples a ratio of a batch is: max(1, floor(ratio * size)).

    Args:
        ratio (float): The ratio, in (0, 1].
        size (int): The number of samples of the batch.
        least (int): What a pass needs; a smaller batch is used whole.
            Defaults to 1.
    """
    # 0.29 * 100 is 28.999999999999996 in floating point.
    return min(size, max(least, int(ratio * size + 1e-6)))


def selection_probabilities(scores: Tensor, s_min: float,
                            s_max: float) -> Tensor:
    """Maps scores to relative probabilities between ``s_min`` and ``s_max``.

    Deng et al., AAAI 2025, the sampling rate of a sample: linear in its ADLP
    between the batch's lowest and highest.

    Args:
        scores (Tensor): ADLP of each sample, shape (b, ); NaN for a sample
            that was never used, which counts as the batch's highest, -inf
            for one that failed, which counts as the lowest.
        s_min (float): The lowest probability.
        s_max (float): The highest probability.

    Returns:
        Tensor: q, shape (b, ), float64; all equal when all scores are.
    """
    values = scores.double().numpy()
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0., 0.)
    if low == high:
        q = np.full(len(values), s_max)
    else:
        relative = (values - low) / (high - low)
        relative[np.isnan(values)] = 1
        q = s_min + (s_max - s_min) * relative
    q[values == -np.inf] = s_min
    return torch.from_numpy(q)


def favoring_low(scores: Tensor) -> Tensor:
    """Scores turned around, for selections that favor the lowest.

    Args:
        scores (Tensor): Scores, shape (b, ). Unknown ones (NaN) and those
            that failed (-inf) stay what they are.
    """
    return scores.where(~scores.isfinite(), -scores)


def sample_multinomial(q: Tensor, num: int,
                       generator: torch.Generator | None = None) -> Tensor:
    """Sampling without replacement, with probability proportional to q.

    A race of exponential clocks (Efraimidis and Spirakis, 2006) gives the same
    distribution as taking one sample after the other, and its first ``m``
    samples are themselves such a subset of size ``m``.

    Args:
        q (Tensor): Relative probabilities, shape (b, ), not negative.
        num (int): The number of samples k, at most b.
        generator (torch.Generator, optional): Source of randomness.

    Returns:
        Tensor: Positions in the order in which they were taken, shape (k, ).
    """
    clocks = torch.empty(
        len(q), dtype=torch.double).exponential_(generator=generator)
    order = np.argsort(clocks.numpy() / q.double().numpy())
    return torch.from_numpy(order[:num])


def inclusion_probabilities(q: Tensor, num: int) -> Tensor:
    """Inclusion probabilities proportional to q that sum to ``num``.

    pi = min(1, c * q) with c such that the sum is k (Horvitz and Thompson's
    setting with probability proportional to size).

    Args:
        q (Tensor): Relative probabilities, shape (b, ), positive.
        num (int): The number of samples k, at most b.

    Returns:
        Tensor: pi, shape (b, ), float64, each in (0, 1].
    """
    q = q.double()
    order = torch.argsort(q, descending=True)
    largest = q[order]
    # With the m largest at 1, c = (k - m) / (sum of the rest); the right m is
    # the first for which the next largest stays within 1.
    rest = largest.flip(0).cumsum(0).flip(0)
    certain = torch.arange(len(q), dtype=torch.double)
    fits = (num - certain) * largest <= rest * (1 + 1e-12)
    m = int(fits.nonzero()[0]) if fits.any() else len(q)
    pi = torch.ones_like(q)
    if m < len(q):
        pi[order[m:]] = ((num - m) * largest[m:] / rest[m]).clamp(max=1)
    return pi


def sample_systematic(pi: Tensor,
                      generator: torch.Generator | None = None) -> Tensor:
    """Systematic sampling: inclusion probabilities exactly ``pi``.

    The samples' probabilities are laid end to end, and those are taken on
    which a comb of spacing 1 with a random start falls (Madow, 1949).

    Args:
        pi (Tensor): Inclusion probabilities, shape (b, ), their sum a whole
            number k.
        generator (torch.Generator, optional): Source of randomness.

    Returns:
        Tensor: Positions, ascending, shape (k, ).
    """
    num = int(pi.sum().round())
    certain = (pi >= 1 - 1e-9).nonzero().flatten()
    open_ = (pi < 1 - 1e-9).nonzero().flatten()
    wanted = num - len(certain)
    if wanted == 0:
        return certain
    ends = pi[open_].cumsum(0)
    ends *= wanted / ends[-1].item()  # rounding must not cost a tooth
    start = torch.rand((), dtype=torch.double, generator=generator)
    comb = start + torch.arange(wanted, dtype=torch.double)
    hit = torch.searchsorted(ends, comb, right=True).clamp(max=len(open_) - 1)
    return torch.cat([certain, open_[hit]]).sort().values


def effective_size(q: Tensor) -> float:
    """How many samples share the probability, (sum q)^2 / sum q^2.

    Args:
        q (Tensor): Relative probabilities, shape (b, ).
    """
    return float(q.sum()**2 / (q**2).sum())


def select_multinomial(q: Tensor, num_ascent: int, num_descent: int,
                       generator: torch.Generator) -> Selection:
    """The paper's selection: without replacement, in proportion to q.

    Args:
        q (Tensor): Relative probabilities, shape (b, ).
        num_ascent (int): Samples of the first pass k1.
        num_descent (int): Samples of the second pass k2, at least k1.
        generator (torch.Generator): Source of randomness.

    Returns:
        Selection: The first pass sees those that were taken first.
    """
    taken = sample_multinomial(q, num_descent, generator)
    return Selection(
        len(q), taken.sort().values, taken[:num_ascent].sort().values,
        effective_size=effective_size(q))


def select_systematic(q: Tensor, num_ascent: int, num_descent: int,
                      weighted: bool,
                      generator: torch.Generator) -> Selection:
    """A selection whose inclusion probabilities are known exactly.

    Args:
        q (Tensor): Relative probabilities, shape (b, ).
        num_ascent (int): Samples of the first pass k1.
        num_descent (int): Samples of the second pass k2, at least k1.
        weighted (bool): Whether losses are weighted 1 / (b * pi), so that the
            sampled gradient is unbiased.
        generator (torch.Generator): Source of randomness.

    Returns:
        Selection: The first pass sees a systematic sample of the second's.
    """
    size = len(q)
    pi2 = inclusion_probabilities(q, num_descent)
    descent = sample_systematic(pi2, generator)
    pi1 = inclusion_probabilities(q[descent], num_ascent)
    within = sample_systematic(pi1, generator) \
        if num_ascent < num_descent else torch.arange(num_descent)
    descent_weights = ascent_weights = None
    if weighted:
        descent_weights = 1 / (size * pi2[descent])
        ascent_weights = (descent_weights / pi1)[within]
    return Selection(size, descent, descent[within], descent_weights,
                     ascent_weights, effective_size(q))


def select_highest(scores: Tensor, num_ascent: int, num_descent: int,
                   generator: torch.Generator | None = None) -> Selection:
    """The samples with the highest scores.

    Args:
        scores (Tensor): Scores, shape (b, ). Unknown ones (NaN) come first,
            and those that failed (-inf) last, in a random order.
        num_ascent (int): Samples of the first pass k1.
        num_descent (int): Samples of the second pass k2, at least k1.
        generator (torch.Generator, optional): Source of randomness.
    """
    scores = scores.double().nan_to_num(math.inf, neginf=-math.inf)
    failed = scores == -math.inf
    if failed.any():
        # One of them spoils the others' losses where BatchNorm joins them.
        lowest = torch.finfo(torch.float64).min
        scores[failed] = lowest * (1 - torch.rand(
            int(failed.sum()), dtype=torch.float64, generator=generator) / 2)
    highest = scores.argsort(descending=True, stable=True)
    return Selection(
        len(scores), highest[:num_descent].sort().values,
        highest[:num_ascent].sort().values)
