"""Selections from a batch, and how near their gradients come to its own."""

from typing import Any

import torch
from torch import Tensor, nn

from ..methods import AUSAM

# Ways of selecting: the scores that decide, and the options of AUSAM.
WAYS: dict[str, tuple[str, dict[str, str]]] = {
    'ADLP': ('adlp', {}),
    'ADLP, low first': ('adlp', dict(favor='low')),
    'ADLP, systematic': ('adlp', dict(sampling='systematic')),
    'ADLP, weighted': ('adlp', dict(
        sampling='systematic', weighting='inverse_probability')),
    'uniform': ('adlp', dict(scores='uniform')),
    'highest loss': ('losses', dict(scores='loss')),
    'gradient norm': ('norms', dict(scores='gradient_norm')),
    'norm, weighted': ('norms', dict(
        scores='gradient_norm', sampling='systematic',
        weighting='inverse_probability')),
}


def selector(way: str, ratio: float, s_min: float, s_max: float,
            seed: int) -> AUSAM:
    """An AUSAM of one of the ``WAYS``, without warm-up and ramp."""
    options: dict[str, Any] = WAYS[way][1]
    return AUSAM(
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.), alpha=ratio,
        s_min=s_min, s_max=s_max, warmup_iters=0, ramp_iters=0, seed=seed,
        **options)


def selection_weights(method: AUSAM, scores: Tensor, numbers: range) -> Tensor:
    """What each sample of a batch counts in the gradients of selections.

    Args:
        method (AUSAM): What selects.
        scores (Tensor): The scores of the samples, shape (b, ).
        numbers (range): The numbers of the selections, n of them.

    Returns:
        Tensor: Shape (n, b), float64.
    """
    weights = torch.zeros(len(numbers), len(scores), dtype=torch.float64)
    for row, number in zip(weights, numbers):
        selection = method.select_by_scores(scores, number)
        row[selection.descent] = 1 / len(selection.descent) \
            if selection.descent_weights is None \
            else selection.descent_weights.double()
    return weights


def compare_selections(products: Tensor, weights: Tensor) -> dict[str, float]:
    """Bias and variance of sampled gradients against the full batch's.

    All are relative to the norm of the full batch's gradient g, and follow
    from scalar products alone.

    Args:
        products (Tensor): Those of the samples' gradients, shape (b, b).
        weights (Tensor): What each counts in a selection, shape (n, b),
            n > 1.

    Returns:
        dict[str, float]: ``bias``, the distance of the mean of the sampled
        gradients from g; ``chance``, what unbiased ones would have of it, the
        root of the variance divided by n; ``variance``, their mean squared
        distance from their mean; ``cosine``, the mean of theirs with g.
    """
    number, size = weights.shape
    full = torch.full((size, ), 1 / size, dtype=products.dtype)

    def squares(vectors: Tensor) -> Tensor:
        """Squared norms of weighted sums of the gradients."""
        return ((vectors @ products) * vectors).sum(-1).clamp(min=0)

    mean, square = weights.mean(0), squares(full)
    variance = squares(weights - mean).sum() / (number - 1) / square
    lengths = (squares(weights) * square).sqrt().clamp(min=1e-300)
    return dict(
        bias=float((squares(mean - full) / square).sqrt()),
        chance=float((variance / number).sqrt()),
        variance=float(variance),
        cosine=float((weights @ products @ full / lengths).mean()))
