"""What a model may make of a loss module, tried on every loss there is.

A loss is judged on one batch. On another one it then has to be right on
parts: their gradients, weighted by their sizes, are the batch's. Whether a
model is separable at all is found out by brute force, without ausam_mm: by its
total loss on each sample alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.model import BaseModel
from torch import nn

from ausam_mm.engine.aside import Aside
from ausam_mm.engine.forward_state import ForwardState
from ausam_mm.losses import PassRecord, PerSampleLosses
from ausam_mm.undo import Undo

from .loss_cases import (
    CASES,
    COUNTED,
    REFUSED,
    WHOLE_BATCH,
    N,
    build_loss,
    is_known,
)

VARIANTS = {
    'as it is': lambda model, args: model.l(*args),
    'weighted outside': lambda model, args: 3 * model.l(*args),
    'called twice': lambda model, args: dict(
        loss_a=model.l(*args), loss_b=.3 * model.l(
            moved(args[0], model.shift), *args[1:])),
    'sum of what it returns': lambda model, args: model.l(*args).sum(),
    'mean of what it returns': lambda model, args: model.l(*args).mean(),
    'the highest of what it returns': lambda model, args: model.l(
        *args).flatten().topk(2).values.mean(),
    'samples reordered': lambda model, args: model.l(*reordered(args)),
    'samples centered': lambda model, args: model.l(
        centered(args[0]), *args[1:]),
    'a part outside': lambda model, args: dict(
        loss=model.l(*args), loss_outside=first(args[0]).pow(2).mean()),
}

# The total is separable, but which loss is whose cannot be seen.
UNSEEN = ('samples reordered', 'a part outside')


def pick(value, index):
    """The part of arguments that some samples have."""
    if isinstance(value, tuple):
        return tuple(pick(part, index) for part in value)
    return value[index] if isinstance(value, torch.Tensor) else value


def first(pred):
    """One tensor of a prediction."""
    return pred[0] if isinstance(pred, tuple) else pred


def moved(pred, shift):
    """A prediction, changed a little by a parameter."""
    if isinstance(pred, tuple):
        return tuple(moved(part, shift) for part in pred)
    return pred * (1 + 0.1 * shift)


def centered(pred):
    """A prediction that depends on those of the other samples."""
    if isinstance(pred, tuple):
        return tuple(map(centered, pred))
    return pred * .5 + pred.mean(0, keepdim=True) * .5


def reordered(args):
    """A call whose samples are in the order of their predictions."""
    return pick(args, first(args[0]).flatten(1).sum(1).argsort())


@dataclass
class Result:
    """What became of a variant of a loss.

    Attributes:
        name (str): The loss and the variant.
        verdict (str): 'right', 'refused', 'refused wrongly' or 'wrong'.
        reason (str): Why it was refused.
    """
    name: str
    verdict: str
    reason: str = ''


class Model(BaseModel):
    """A variant of a loss, with a parameter for each prediction."""

    def __init__(self, loss, variant, kwargs):
        super().__init__()
        self.module = loss
        self.shift = nn.Parameter(torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()))
        self.variant, self.kwargs = VARIANTS[variant], kwargs

    def l(self, *args):  # noqa: E743
        """The loss; heads give it the number of samples."""
        kwargs = dict.fromkeys(self.kwargs, len(first(args[0])))
        return self.module(*args, **kwargs)

    def forward(self, args):
        args = (moved(args[0], self.scale - 1), *args[1:])
        loss = self.variant(self, args)
        return loss if isinstance(loss, dict) else dict(loss=loss)


def shuffled(args, seed):
    """Other samples: predictions with the labels of others."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(N, generator=generator) for _ in range(2)]
    return (pick(args[0], orders[0]),
            *(pick(arg, orders[1]) for arg in args[1:]))


def total(model, args):
    return model.parse_losses(model(args))[0]


def gradient(loss, model):
    """The loss and its gradient, shape (3, )."""
    grads = torch.autograd.grad(loss, [model.shift, model.scale],
                                allow_unused=True)
    return torch.stack([loss.detach(), *(
        torch.zeros(()) if grad is None else grad for grad in grads)])


def is_separable(model, batches):
    """Whether the total is the mean or the sum of those on each sample."""
    for number in (1, N):
        if all(_is_sum(model, args, number) for args in batches):
            return True
    return False


def _is_sum(model, args, number):
    whole = gradient(total(model, args), model)
    parts = [gradient(total(model, pick(args, slice(i, i + 1))), model)
             for i in range(N)]
    return torch.allclose(sum(parts) / number, whole, rtol=1e-3, atol=1e-6)


def try_variant(case, variant):
    """What becomes of a variant of a loss.

    Args:
        case (tuple): Package, class, options, arguments, named arguments.
        variant (str): Of ``VARIANTS``.

    Returns:
        Result, optional: None if the loss has no such variant.
    """
    package, kind, options, args, kwargs = case
    if 'returns' in variant:
        options = dict(options, reduction='none')
    torch.manual_seed(0)
    try:
        module = build_loss(package, kind, options)
    except TypeError:  # it has no reduction
        return None
    model = Model(module, variant, kwargs)
    batches = [args, shuffled(args, 1), shuffled(args, 2)]
    if 'returns' in variant and model.l(*args).ndim == 0:
        return None
    name = f'{kind} {sorted(options)}, {variant}'
    try:
        right = is_right(model, batches)
    except ValueError as error:
        try:
            wrongly = variant not in UNSEEN and is_separable(model, batches)
        except Exception:  # it cannot even be evaluated on one sample
            wrongly = False
        return Result(name, 'refused wrongly' if wrongly else 'refused',
                      str(error))
    return Result(name, 'right' if right else 'wrong')


def is_right(model, batches):
    """Judges a model on one batch and compares parts of the others."""
    losses, state, undo = PerSampleLosses(model), ForwardState(model), Undo()
    records = []

    @contextmanager
    def aside(record):
        records.append(record)
        yield

    state.save()
    with losses.watch(lambda: records[-1]):
        Aside(model, model, losses, state, aside, undo).judge(
            ((batches[0], ), {}), N, list(batches[0]))
    return all(_parts_are_right(model, losses, args, positions)
               for args in batches[1:]
               for positions in ([0, 2, 3], [1, 5], [4]))


def _parts_are_right(model, losses, args, positions):
    whole = gradient(total(model, args), model)
    rest = [i for i in range(N) if i not in positions]
    found = 0
    for seen in (positions, rest):
        record = PassRecord(len(seen), N, batch=list(args),
                            positions=torch.tensor(seen))
        with losses.watch(lambda record=record: record):
            loss = total(model, pick(args, seen))
        found = found + gradient(loss, model) * len(seen) / N
        losses.check(record)
    return torch.allclose(found, whole, rtol=1e-3, atol=1e-5)


def results():
    """What became of all variants of all losses."""
    cases = [*CASES, *[(*case, {}) for case in COUNTED + REFUSED],
             *[(*case, (torch.rand(N, 4), torch.rand(N, 4)), {})
               for case in WHOLE_BATCH]]
    for case in cases:
        if is_known(*case[:2]):
            for variant in VARIANTS:
                result = try_variant(case, variant)
                if result is not None:
                    yield result
