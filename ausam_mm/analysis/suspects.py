"""Rankings of samples by how likely their label is wrong."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import require
from .evaluation import Evaluation

# Of cleanlab's ways of scoring a label those with another order than the loss,
# which has that of its default: names, and what get_label_quality_scores gets.
CLEANLAB: dict[str, dict[str, Any]] = {
    'cleanlab, margin': dict(method='normalized_margin'),
    'cleanlab, adjusted': dict(adjust_pred_probs=True),
    'cleanlab, entropy': dict(method='confidence_weighted_entropy'),
}


def rankings_of(tables: dict[str, Tensor],
                evaluation: Evaluation | None) -> dict[str, Tensor]:
    """What can rank the samples; the higher, the more suspicious.

    Args:
        tables (dict[str, Tensor]): What the training has kept of the
            samples, such as ADLP, by its name, each (n, ).
        evaluation (Evaluation, optional): What the model makes of the
            samples, None without an evaluation.

    Returns:
        dict[str, Tensor]: By name, each (n, ), float64; NaN for a sample
        without a score, -inf for one that failed.
    """
    found: dict[str, Tensor] = {}
    if evaluation is not None and len(evaluation.labels):
        found['loss'] = evaluation.losses
        found.update(_of_cleanlab(evaluation))
    elif evaluation is not None:
        found['distance'] = evaluation.distances.double()
        exchanged = found['distance'] - evaluation.exchanged
        if bool(exchanged.isfinite().any()):
            found['left-right'] = exchanged
    return {**tables, **found}


def measure(wrong: Tensor, ranking: Tensor, first: int) -> dict[str, float]:
    """How well a ranking finds the samples that are known to be wrong.

    Args:
        wrong (Tensor): Which they are, shape (n, ), bool.
        ranking (Tensor): The higher, the more suspicious, shape (n, ), as
            :func:`rankings_of` returns it.
        first (int): How many samples are looked at.

    Returns:
        dict[str, float]: ``average_precision``, the area under the curve of
        precision and recall, and of the ``first`` samples the ``precision``,
        the ratio that is wrong, and the ``recall``, the ratio of all wrong
        ones that is among them.
    """
    hits = int(wrong[order_of(ranking)[:first]].sum())
    return dict(
        average_precision=float(_metrics().average_precision_score(
            wrong.numpy(), _comparable(ranking).numpy())),
        precision=hits / min(first, len(wrong)),
        recall=hits / int(wrong.sum()))


def curve(wrong: Tensor, ranking: Tensor) -> tuple[Any, Any]:
    """Recall and precision as more and more samples are looked at."""
    precision, recall, _ = _metrics().precision_recall_curve(
        wrong.numpy(), _comparable(ranking).numpy())
    return recall, precision


def order_of(ranking: Tensor) -> Tensor:
    """Positions of the samples, the most suspicious first.

    Those that failed come first, and those without a score last.
    """
    return _comparable(ranking).argsort(descending=True, stable=True)


def _comparable(values: Tensor) -> Tensor:
    """Finite numbers in the same order, for scikit-learn."""
    values = values.double()
    finite = values[values.isfinite()]
    low, high = (finite.min(), finite.max()) if len(finite) else (
        torch.tensor(0.), torch.tensor(0.))
    span = high - low + 1
    # A sample that failed has -inf in the table.
    return values.nan_to_num(
        nan=float(low - span), neginf=float(high + span),
        posinf=float(high + span))


def _of_cleanlab(evaluation: Evaluation) -> dict[str, Tensor]:
    """Its rankings by the same probabilities, if it is installed."""
    if find_spec('cleanlab') is None:
        return {}
    from cleanlab.rank import get_label_quality_scores
    labels = evaluation.labels.numpy()
    probabilities = evaluation.probabilities.double().numpy()
    found: dict[str, Tensor] = {}
    for name, options in CLEANLAB.items():
        # Its thresholds need each class among the labels.
        if 'adjust_pred_probs' in options and len(
                np.unique(labels)) < probabilities.shape[1]:
            continue
        found[name] = 1 - torch.from_numpy(np.asarray(
            get_label_quality_scores(labels, probabilities, **options)))
    return found


def _metrics() -> Any:
    require(find_spec('sklearn'), 'The curves of precision and recall are '
            "scikit-learn's: install it with `pip install scikit-learn`.")
    import sklearn.metrics
    return sklearn.metrics
