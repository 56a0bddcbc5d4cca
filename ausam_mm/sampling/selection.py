"""Probabilities and draws: pure functions of tensors on the CPU."""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor


@dataclass
class Draw:
    """The samples of one batch that the two passes of a step see.

    Attributes:
        size (int): Number of samples b of the batch it was drawn from.
        descend (Tensor): Positions in the batch that the second pass sees,
            ascending, shape (k2, ), int64.
        climb (Tensor): Positions within ``descend`` that the first pass sees,
            ascending, shape (k1, ), int64.
        descend_weights (Tensor, optional): What each loss of the second pass
            is multiplied with, 1 / (b * pi), shape (k2, ). None leaves the
            model's own batch loss. Defaults to None.
        climb_weights (Tensor, optional): The same of the first pass, shape
            (k1, ). Defaults to None.
        effective_size (float, optional): How many samples share the draw's
            probability, (sum q)^2 / sum q^2, between 1 and b. Defaults to
            None, for b.
        loaded (int, optional): Samples of the batch that were loaded, to
            which the positions refer. Defaults to None, for b.
    """
    size: int
    descend: Tensor
    climb: Tensor
    descend_weights: Optional[Tensor] = None
    climb_weights: Optional[Tensor] = None
    effective_size: Optional[float] = None
    loaded: Optional[int] = None

    def __post_init__(self) -> None:
        if self.loaded is None:
            self.loaded = self.size

    @classmethod
    def everything(cls, size: int) -> 'Draw':
        """Both passes see the whole batch."""
        return cls(size, torch.arange(size), torch.arange(size))

    @property
    def same(self) -> bool:
        """Whether both passes see the same samples."""
        return len(self.climb) == len(self.descend)


def num_drawn(ratio: float, size: int) -> int:
    """How many samples a ratio of a batch is: max(1, floor(ratio * size)).

    Args:
        ratio (float): The share of the batch, in (0, 1].
        size (int): The number of samples of the batch.

    Returns:
        int: The number of samples, at least 1.
    """
    # 0.29 * 100 is 28.999999999999996 in floating point.
    return max(1, int(ratio * size + 1e-6))


def selection_probabilities(scores: Tensor, s_min: float,
                            s_max: float) -> Tensor:
    """Maps scores to relative probabilities between ``s_min`` and ``s_max``.

    Deng et al., AAAI 2025, the sampling rate of a sample: linear in its ADLP
    between the batch's lowest and highest.

    Args:
        scores (Tensor): ADLP of each sample, shape (b, ); NaN for a sample
            that was never used, which counts as the batch's highest.
        s_min (float): The lowest probability.
        s_max (float): The highest probability.

    Returns:
        Tensor: q, shape (b, ), float64; all equal when all scores are.
    """
    scores = scores.double()
    known = scores[~scores.isnan()]
    if len(known) == 0 or known.min() == known.max():
        return torch.full_like(scores, s_max)
    low, high = known.min(), known.max()
    relative = ((scores - low) / (high - low)).nan_to_num(nan=1.0)
    return s_min + (s_max - s_min) * relative


def draw_multinomial(q: Tensor, num: int,
                     generator: Optional[torch.Generator] = None) -> Tensor:
    """Draws without replacement, each draw with probability proportional to q.

    A race of exponential clocks (Efraimidis and Spirakis, 2006) gives the same
    distribution as drawing one sample after the other, and its first ``m``
    samples are themselves such a draw of size ``m``.

    Args:
        q (Tensor): Relative probabilities, shape (b, ), not negative.
        num (int): The number of samples k, at most b.
        generator (torch.Generator, optional): Source of randomness.

    Returns:
        Tensor: Positions in the order in which they were drawn, shape (k, ).
    """
    clocks = torch.empty(
        len(q), dtype=torch.double).exponential_(generator=generator)
    return torch.argsort(clocks / q.double())[:num]


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


def draw_systematic(pi: Tensor,
                    generator: Optional[torch.Generator] = None) -> Tensor:
    """Systematic sampling: inclusion probabilities exactly ``pi``.

    The samples' probabilities are laid end to end, and those are drawn on
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
