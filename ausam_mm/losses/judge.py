"""How the total loss of a model is made of the losses of its samples.

Comparisons of what passes over a batch and over parts of it recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .alone import batched_arguments
from .record import COUNT, MEAN, NONE, SUM, PassRecord, Reduction, Term
from .rules import refusal

COMPARES = 'it compares the samples of the batch with each other'
REORDERS = 'the model reorders the samples before it'
DIVIDES = ('its value {value:.6g} is neither the mean nor the sum of the '
           'losses of the samples alone: it divides by something of the '
           'batch, or compares its samples with each other')
OUTSIDE = ('A part of the total loss ({rest:.3g}) is computed outside of the '
           'loss modules {names} and depends on the samples, so that their '
           'losses cannot be seen: compute it in an nn.Module whose class '
           'name ends with "Loss", or use SAM, which needs no per-sample '
           'losses.')
WEIGHTED = ('what the total loss makes of it depends on the other samples of '
            'the batch')


@dataclass
class Verdict:
    """What was found.

    Attributes:
        calls (dict[str, Reduction]): How each call is reduced, by key.
        outside (bool): Whether the total has a part that no loss module
            computes and that does not depend on the batch.
        spread (bool): Whether the samples' losses differ by enough to tell.
    """
    calls: dict[str, Reduction]
    outside: bool
    spread: bool


def judge(full: PassRecord, parts: list[PassRecord],
          evaluate: Callable[[Term, list[bool]], Any]) -> Verdict:
    """Finds out how the total loss is made of the losses of the samples.

    Args:
        full (PassRecord): A pass aside over a batch.
        parts (list[PassRecord]): The same over parts of it, with the
            ``positions`` of their samples. Without them nothing is said of
            what happens to the samples before the loss modules.
        evaluate (Callable): Computes the samples' losses of a term, given
            which arguments of its call hold a slice for each sample.

    Raises:
        ValueError: If it is not made of them.
    """
    keys = [term.key for term in full.terms]
    for part in parts:
        others = [term.key for term in part.terms]
        if others != keys:
            odd = next(term for term in full.terms + part.terms
                       if (term.key in keys) != (term.key in others))
            raise refusal(odd.name, odd.module, 'for a part of the batch the '
                          'model calls it another number of times')
    calls = {}
    for i, term in enumerate(full.terms):
        if term.weight is None:  # a metric
            calls[term.key] = Reduction(term.of_module)
            continue
        same = [part.terms[i] for part in parts]
        batched = [all(flags) for flags in zip(*(
            batched_arguments(*each.call, each.num_samples)
            for each in (term, *same)))]
        for each in (term, *same):
            evaluate(each, batched)
        calls[term.key] = _reduction(
            term, [(each, part.positions) for each, part in zip(same, parts)],
            batched)
        for each in (term, *same):
            each.reduction = calls[term.key]
    # A part of which all labels are ignored is NaN, and tells nothing.
    finite = [part for part in parts
              if part.total is not None and part.total.isfinite()]
    tells = len(finite) > 0 or not parts
    return Verdict(calls, not tells or _has_outside(full, finite),
                   tells and _spread(full))


def fits(term: Term, of_module: str, sums: list[float]) -> bool:
    """Whether a module's value is what a reduction makes of the losses.

    Args:
        term (Term): A call of the module.
        of_module (str): The reduction.
        sums (list[float]): Its :meth:`Term.sums`.
    """
    if of_module == NONE:
        return term.gives_vector
    value, losses, size, counts = sums
    number = {SUM: 1., COUNT: counts}.get(of_module, term.num_samples)
    # Without a sample that counts, torch's own are NaN.
    if not number or not math.isfinite(value + size):
        return True
    return abs(value * number - losses) <= sum_tolerance(term.output) * (
        size + 1e-6)


def outside(record: PassRecord, sums: list[float]) -> tuple[float, float]:
    """The part of the total that is not the loss modules', and its error.

    Args:
        record (PassRecord): A pass after its backward pass.
        sums (list[float]): Its :meth:`PassRecord.sums`.

    Returns:
        tuple[float, float]: The part, and how far it may be from 0 by
        rounding; NaN if the pass overflowed.
    """
    assert record.total is not None
    total, parts = sums[0], sums[1::5]
    size = abs(total) + sum(map(abs, parts))
    return total - sum(parts), size * sum_tolerance(record.total)


def same_losses(one: PassRecord, other: PassRecord) -> bool:
    """Whether two passes over a batch returned the same from loss modules."""
    return len(one.terms) == len(other.terms) and all(
        torch.allclose(a.output, b.output, rtol=view_tolerance(a),
                       atol=1e-9, equal_nan=True)
        for a, b in zip(one.terms, other.terms))


def sum_tolerance(value: Tensor) -> float:
    """How far a sum may be from its parts, by precision."""
    return {torch.float64: 1e-8, torch.float32: 1e-4}.get(value.dtype, 1e-2)


def view_tolerance(term: Term) -> float:
    """How far a sample's loss may be from its loss in another batch.

    Kernels depend on the size of a batch, and those of devices may round
    single precision to 10 bits.
    """
    dtype = term.output.dtype
    if term.autocast_dtype is not None or \
            dtype in (torch.float16, torch.bfloat16):
        return 3e-2
    if dtype == torch.float64:
        return 1e-6
    return 1e-3 if term.device == 'cpu' else 1e-2


def _reduction(term: Term, parts: list[tuple[Term, Tensor | None]],
               batched: list[bool]) -> Reduction:
    """How a call is reduced, found on a batch and on parts of it."""

    def refuse(reason: str) -> ValueError:
        return refusal(term.name, term.module, reason)

    everything = [term, *(part for part, _ in parts)]
    tolerance = view_tolerance(term)
    for part, positions in parts:
        for whole, few in _values(term, part):
            _compare_samples(whole, few, positions, tolerance, refuse)

    vectors = {each.gives_vector for each in everything}
    if len(vectors) == 2:
        raise refuse('it returns a value for each sample of some batches only')
    candidates = [NONE] if True in vectors else \
        [COUNT] if term.counts is not None else [MEAN, SUM]
    of_module = next((name for name in candidates if all(
        fits(each, name, each.sums().tolist()) for each in everything)), None)
    if of_module is None:
        compares = term.losses is not None and not term.losses.any()
        raise refuse(COMPARES if compares else DIVIDES.format(
            value=float(term.output.double().mean())))

    reduction = Reduction(of_module, batched=batched)
    for each in everything:
        each.reduction = reduction
    fitting = [name for name in (MEAN, SUM) if all(
        _totals_agree(term, part, positions, name, tolerance)
        for part, positions in parts)]
    if not fitting:
        raise refuse(WEIGHTED)
    # Where both fit, it is in no total, or nothing was compared.
    reduction.in_total = SUM if not parts and of_module == SUM else fitting[0]
    return reduction


def _values(term: Term, part: Term) -> list[tuple[Tensor, Tensor]]:
    """What is the same for a sample in the batch and in a part of it."""
    if term.losses is None or part.losses is None:
        return [(term.output, part.output)]
    values = [(term.losses, part.losses)]
    if term.counts is not None and part.counts is not None:
        values.append((term.counts, part.counts))
    return values


def _compare_samples(whole: Tensor, few: Tensor, positions: Tensor | None,
                     tolerance: float,
                     refuse: Callable[[str], ValueError]) -> None:
    """Raises unless the samples' losses are the same in a part."""
    assert positions is not None
    whole, few = whole.double().cpu(), few.double().cpu()
    positions = positions.cpu()
    size = whole.abs().mean()
    if whole.shape[1:] != few.shape[1:]:
        raise refuse(COMPARES)
    if not size.isfinite() or not few.isfinite().all():
        return

    bound = tolerance * size + 1e-9
    if bool(((whole[positions] - few).abs() <= bound).all()):
        return
    elsewhere = few.ndim == 1 and bool((
        (few[:, None] - whole[None]).abs().amin(1) <= bound).all())
    raise refuse(REORDERS if elsewhere else COMPARES)


def _totals_agree(term: Term, part: Term, positions: Tensor | None,
                  in_total: str, tolerance: float) -> bool:
    """Whether a sample adds the same to the total of a part of the batch."""
    if term.weight is None or part.weight is None:
        return term.weight is part.weight
    if term.of_module == COUNT:  # what divides them differs
        assert term.losses is not None and part.losses is not None
        whole, few = term.weight * term.losses, part.weight * part.losses
    else:
        number = (1, 1) if in_total == SUM else (
            term.num_samples, part.num_samples)
        whole = term.contributions(term.weight) * number[0]
        few = part.contributions(part.weight) * number[1]
    whole, few = whole.double().cpu(), few.double().cpu()
    size = whole.abs().mean()
    if not size.isfinite() or not few.isfinite().all():
        return True
    assert positions is not None
    error = (whole[positions.cpu()] - few).abs()
    return bool((error <= tolerance * size + 1e-9).all())


def _has_outside(full: PassRecord, parts: list[PassRecord]) -> bool:
    """Whether there is a part that is not the loss modules', but constant."""
    (rest, error), *others = (outside(each, each.sums().tolist())
                              for each in (full, *parts))
    if not abs(rest) > error and not any(
            abs(other) > its for other, its in others):
        return False
    constant = bool(parts) and all(
        abs(other - rest) <= error + its + 1e-3 * abs(rest) * bool(rest)
        for other, its in others)
    if not constant:
        raise ValueError(OUTSIDE.format(rest=rest, names=full.names))
    return True


def _spread(full: PassRecord) -> bool:
    """Whether the samples' losses differ by enough to tell reductions."""
    parts = [(term.contributions(weight).double(), term)
             for term, weight in full.weighted_terms()]
    total = sum(part.abs().sum() for part, _ in parts)
    if full.num_samples < 2 or not parts or not total > 0:
        return False
    return all(
        part.std() >= max(3 * view_tolerance(term),
                          10 * sum_tolerance(term.output)) * part.abs().mean()
        for part, term in parts if part.abs().sum() >= 0.01 * total)
