"""Whatever the total loss is made of, sampled gradients are unbiased.

Hypothesis draws the parts of a model's total loss. The expectation is exact:
all selections of a systematic sample, weighted by their probabilities.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from ausam_mm.sampling import Selection, inclusion_probabilities

from .toy import CLASSES, ausam, batch, gradient, make, record, total_of

SIZE = 7


class SummedLoss(nn.Module):
    def forward(self, pred, labels):
        return F.cross_entropy(pred, labels, reduction='sum')


class SquaredErrorLoss(nn.Module):
    def forward(self, pred, labels):
        return (pred - F.one_hot(labels, CLASSES)).pow(2).mean()


WEIGHTS = torch.tensor([1., 2., 3., 4., .5]).double()
# Loss modules, and what a model makes of them.
MODULES = dict(
    mean=nn.CrossEntropyLoss, sum=SummedLoss, square=SquaredErrorLoss,
    none=lambda: nn.CrossEntropyLoss(reduction='none'),
    weighted=lambda: nn.CrossEntropyLoss(weight=WEIGHTS.clone()),
    ignoring=lambda: nn.CrossEntropyLoss(ignore_index=2))
USES = dict(
    none=[lambda losses, labels: losses.sum(),
          lambda losses, labels: losses.mean(),
          lambda losses, labels: losses,
          lambda losses, labels: (losses * WEIGHTS[labels]).mean()],
    sum=[lambda loss, labels: loss,
         lambda loss, labels: loss / len(labels)])

PARTS = st.lists(
    st.tuples(st.sampled_from(sorted(MODULES)), st.integers(0, 3),
              st.floats(0.1, 3.), st.sampled_from(['fc', 'aux'])),
    min_size=1, max_size=3)
EXTRAS = st.lists(st.sampled_from(['decay', 'learned', 'metric']), unique=True)


def loss_of(parts, extras):
    """A total loss of some parts."""

    def function(model, features, labels):
        losses = {}
        for i, (name, use, factor, head) in enumerate(parts):
            loss = getattr(model, name)(getattr(model, head)(features), labels)
            uses = USES.get(name, [lambda loss, labels: loss])
            losses[f'loss_{i}'] = factor * uses[use % len(uses)](loss, labels)
        if 'learned' in extras:
            losses['loss_0'] = losses['loss_0'] * model.net[0].bias[0].exp()
            losses['loss_b'] = model.net[0].bias[0]
        if 'decay' in extras:
            losses['loss_w'] = 1e-2 * model.fc.weight.pow(2).sum()
        if 'metric' in extras:
            with torch.no_grad():
                losses['metric'] = getattr(model, parts[0][0])(
                    model.aux(features), labels).mean()
        return losses

    return function


def selections(pi):
    """All systematic samples, with their probabilities.

    The ends of the samples' intervals, laid one after the other, are where
    the outcome of a random start changes.
    """
    ends = pi.cumsum(0)
    turns = torch.cat([torch.tensor([0., 1.]).double(), ends % 1]).sort()[0]
    for low, high in zip(turns, turns[1:]):
        if high - low > 1e-9:
            comb = (low + high) / 2 + torch.arange(int(pi.sum().round()))
            seen = torch.searchsorted(ends, comb, right=True).unique()
            yield float(high - low), seen


@given(parts=PARTS, extras=EXTRAS, seed=st.integers(0, 99),
       scores=st.lists(st.floats(0.1, 1.), min_size=SIZE, max_size=SIZE))
# Of a part of the first batch all labels are ignored.
@example(parts=[('ignoring', 0, 1., 'fc')], extras=['decay'], seed=1,
         scores=[1.] * SIZE)
@settings(max_examples=30, deadline=None)
def test_the_expected_gradient_is_the_batchs(parts, extras, seed, scores):
    modules = {name: make_module() for name, make_module in MODULES.items()
               if any(name == part[0] for part in parts)}
    model = make(loss_of(parts, extras), seed, **modules)
    wrapper = ausam(model)
    _, grads = record(wrapper)
    model.train_step(batch(seed, 12, 100), wrapper)
    assert wrapper.losses_verified
    data = batch(seed + 1, SIZE)
    full = gradient(total_of(model, data), model)
    pi = inclusion_probabilities(torch.tensor(scores), 3)
    mean, probability = 0, 0.
    for chance, seen in selections(pi):
        wrapper.select = lambda data, seen=seen: Selection(
            SIZE, seen, seen, *[1 / (SIZE * pi[seen])] * 2,
            keys=torch.arange(SIZE))
        model.train_step(data, wrapper)
        mean, probability = mean + chance * grads[-1], probability + chance
    assert probability == pytest.approx(1)
    torch.testing.assert_close(mean, full, rtol=1e-5, atol=1e-6)
