"""A loss rule of one's own, as CONTRIBUTING.md's checklist has it."""

import pytest
import torch
from torch import nn

import ausam_mm
from ausam_mm.losses import rules as registry

from ..toy import batch, build, wrap
from .loss_cases import N, watched

CLASSES = 3


class MarginCriterion(nn.Module):
    """Sum of the margins that other classes violate, batch mean or sum.

    Neither its name nor torch.func.vmap lets its samples be seen.
    """

    def __init__(self, reduction='mean'):
        super().__init__()
        self.reduction = reduction

    def forward(self, scores, labels):
        margins = self.margins(scores, labels)
        total = margins[margins > 0].sum()
        return total / len(scores) if self.reduction == 'mean' else total

    def margins(self, scores, labels):
        own = scores.gather(1, labels[:, None])
        others = nn.functional.one_hot(labels, scores.size(1)) == 0
        return ((1 + scores - own) * others).relu()


@pytest.fixture
def rules(monkeypatch):
    """The rules, whose changes end with the test."""
    rules = dict(registry._RULES)
    monkeypatch.setattr(registry, '_RULES', rules)
    return rules


@pytest.fixture
def rule(rules):
    @ausam_mm.register_per_sample_loss(MarginCriterion)
    def margin_criterion(module, scores, labels):
        return module.margins(scores, labels).sum(1)


def arguments():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(N, CLASSES, generator=generator)
    return scores.requires_grad_(), torch.arange(N) % CLASSES


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_the_rule_gives_the_module_s_loss_on_each_sample_alone(
        rule, reduction):
    module = MarginCriterion(reduction)
    scores, labels = arguments()
    alone = torch.stack([
        module(scores[i:i + 1], labels[i:i + 1]) for i in range(N)]).detach()
    output, record, losses = watched(module, (scores, labels), {})
    torch.testing.assert_close(record.losses, alone)
    assert losses.reductions == dict(loss_module=reduction)
    assert alone.std() > 0
    assert torch.equal(output, module(scores, labels))


def test_the_rule_s_losses_carry_gradients_with_weights(rule):
    module = MarginCriterion()
    scores, labels = arguments()
    expected, = torch.autograd.grad(module(scores, labels), scores)
    output, *_ = watched(
        module, (scores, labels), {}, weights=torch.full((N, ), 1 / N))
    found, = torch.autograd.grad(output, scores)
    torch.testing.assert_close(found, expected)


def trained():
    model = build()
    model.loss_module, model.criterion = None, MarginCriterion()
    model.forward = lambda inputs, data_samples, mode: dict(
        loss=model.criterion(model.net(inputs), torch.stack(
            [sample.gt for sample in data_samples]).argmax(1)))
    wrapper = wrap(model, type='AUSAM', warmup_iters=1)
    for step in range(3):
        model.train_step(batch(step), wrapper)
    return wrapper


def test_ausam_trains_on_the_loss_with_the_rule_and_refuses_it_without(
        rules, request):
    with pytest.raises(ValueError, match='no loss modules'):
        trained()
    request.getfixturevalue('rule')
    wrapper = trained()
    assert wrapper.reductions == dict(criterion='mean')
    # The first batch whole, then half of each, all twice.
    assert wrapper.samples_backpropagated == 2 * (16 + 8 + 8)
