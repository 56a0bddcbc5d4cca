"""Every loss module of mmpretrain and mmpose: separable, or refused.

The reference is the module itself on one sample at a time.
"""

import pytest
import torch
from torch import nn

import ausam_mm
from ausam_mm.losses import PassRecord, PerSampleLosses

from .loss_cases import (
    CASES,
    COUNTED,
    HEATMAPS,
    MMPOSE,
    POINTS,
    REFUSED,
    WHOLE_BATCH,
    C,
    Holder,
    N,
    is_known,
    one,
    watched,
)
from .loss_cases import build_loss as build


def build_loss(package, kind, options):
    if not is_known(package, kind):
        pytest.skip(f'this release of {package} has no {kind}')
    return build(package, kind, options)


@pytest.mark.parametrize(
    'package,kind,options,args,kwargs', CASES,
    ids=[f'{c[1]}-{c[2]}-{"-".join(c[4])}' for c in CASES])
def test_per_sample_losses_are_those_of_the_module_on_each_sample_alone(
        package, kind, options, args, kwargs):
    torch.manual_seed(0)
    module = build_loss(package, kind, options)
    expected = torch.stack([
        module(*one(args, i), **{k: 1 for k in kwargs}).mean()
        for i in range(N)
    ])
    output, record, losses = watched(module, args, kwargs)
    torch.testing.assert_close(record.losses, expected.detach(), rtol=1e-4,
                               atol=1e-6)
    sums = kind == 'KLDiscretLoss' or options.get('reduction') == 'sum' \
        or options.get('size_average') is False
    assert losses.reductions == {'loss_module': 'sum' if sums else 'mean'}
    assert torch.equal(output, module(*args, **kwargs))
    assert record.losses.std() > 0 and losses.verified


@pytest.mark.parametrize(
    'package,kind,options,args,kwargs', CASES,
    ids=[f'{c[1]}-{c[2]}-{"-".join(c[4])}' for c in CASES])
def test_weights_of_1_by_b_give_the_loss_and_gradient_of_the_batch(
        package, kind, options, args, kwargs):
    torch.manual_seed(0)
    module = build_loss(package, kind, options)
    pred = args[0]
    leaves = [p.clone().requires_grad_() for p in (
        pred if isinstance(pred, tuple) else (pred, ))]
    args = (tuple(leaves) if isinstance(pred, tuple) else leaves[0],
            *args[1:])
    loss = module(*args, **kwargs).mean()
    expected = torch.autograd.grad(loss, leaves)
    # Equal weights 1 / b are the batch loss, for means and for sums.
    output, _, _ = watched(
        module, args, kwargs, weights=torch.full((N, ), 1 / N))
    output = output.mean()
    torch.testing.assert_close(output, loss, rtol=1e-4, atol=1e-6)
    for a, b in zip(torch.autograd.grad(output, leaves), expected):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    'package,kind,options,args', REFUSED, ids=[c[1] for c in REFUSED])
def test_losses_that_are_not_separable_are_refused_by_name(
        package, kind, options, args):
    module = build_loss(package, kind, options)
    with pytest.raises(ValueError) as error:
        watched(module, args, {})
    message = str(error.value)
    assert kind in message and 'loss_module' in message
    assert 'register_per_sample_loss' in message and 'SAM' in message


@pytest.mark.parametrize('package,kind,options,args', COUNTED,
                         ids=[f'{c[1]}-{"-".join(c[2])}' for c in COUNTED])
def test_a_count_that_labels_tell_divides_also_the_losses_of_a_part(
        package, kind, options, args):
    """By the count of the full batch: the sample's loss is s_i * b / P."""
    torch.manual_seed(0)
    module = build_loss(package, kind, options)
    pred = args[0].clone().requires_grad_()
    loss = module(pred, *args[1:])
    expected, = torch.autograd.grad(loss, pred)
    labels = list(args[1:])
    _, record, losses = watched(module, (pred, *labels), {}, batch=labels)
    assert losses.calls['loss_module'].of_module == 'count'
    assert losses.calls['loss_module'].labels is not None
    torch.testing.assert_close(record.losses.mean(), loss.detach())

    # Each sample alone, weighted by 1: their mean is the batch's.
    gradient = torch.zeros_like(pred)
    for i in range(N):
        alone = PassRecord(1, N, batch=labels, positions=torch.tensor([i]))
        model = losses.model
        with losses.watch(lambda record=alone: record):
            part = model(one((pred, *labels), i), {})['loss']
        gradient += torch.autograd.grad(part, pred)[0] / N
        losses.check(alone)
        torch.testing.assert_close(alone.losses, record.losses[i:i + 1])
        assert part.isfinite()
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize('package,kind,options', WHOLE_BATCH)
def test_losses_of_whole_batches_are_refused_before_their_numbers_are_seen(
        package, kind, options):
    module = build_loss(package, kind, options)
    module.forward = lambda *args: args[0].mean()  # would pass as a mean
    with pytest.raises(ValueError, match=f'`loss_module` .{kind}. does not'):
        watched(module, POINTS, {})


def test_a_registered_rule_lifts_a_refusal():
    module = build_loss('mmpretrain', 'SeesawLoss', dict(num_classes=C))
    rules = ausam_mm.losses.rules._RULES
    before = dict(rules)
    try:
        ausam_mm.register_per_sample_loss(type(module))(
            lambda module, scores, labels: nn.functional.cross_entropy(
                scores, labels, reduction='none'))
        losses = PerSampleLosses(Holder(module))
        assert list(losses.modules) == ['loss_module']
    finally:
        rules.clear()
        rules.update(before)
    with pytest.raises(ValueError, match='SeesawLoss'):
        PerSampleLosses(Holder(module))


class BatchNormalized(nn.Module):
    """Not separable, and nothing but its numbers tells."""

    def forward(self, pred, target):
        loss = (pred - target).pow(2)
        return loss.sum() / (1 + loss.amax())


def test_an_unknown_loss_that_is_neither_mean_nor_sum_is_refused():
    with pytest.raises(ValueError, match='neither the mean nor the sum'):
        watched(BatchNormalized(), POINTS, {})


class CountingLoss(nn.Module):
    calls = 0

    def forward(self, pred, target):
        return self.distance(pred, target).mean()

    def distance(self, pred, target):
        type(self).calls += 1
        return (pred - target).abs().flatten(1).sum(1)


def test_a_registered_rule_is_used():
    rules = ausam_mm.losses.rules._RULES
    before = dict(rules)
    try:

        @ausam_mm.register_per_sample_loss(CountingLoss)
        def rule(module, pred, target):
            return module.distance(pred, target)

        CountingLoss.calls = 0
        _, record, losses = watched(CountingLoss(), POINTS, {})
        torch.testing.assert_close(
            record.losses, (POINTS[0] - POINTS[1]).abs().flatten(1).sum(1))
        # The module's own and the rule's, in the pass and on three views.
        assert CountingLoss.calls == 2 * 4
        assert losses.reductions == {'loss_module': 'mean'}
    finally:
        rules.clear()
        rules.update(before)


def test_a_subset_of_a_sum_is_scaled_to_the_batch():
    module = build_loss('mmpose', 'KLDiscretLoss', {})
    args = MMPOSE[5][2]
    output, record, _ = watched(module, args, {}, batch_size=15)
    torch.testing.assert_close(output, record.losses.sum() * 15 / N)


def test_a_batch_of_one_sample_decides_no_reduction():
    module = build_loss('mmpose', 'KeypointMSELoss', {})
    args = tuple(h[:1] for h in HEATMAPS)
    _, record, losses = watched(module, args, {}, num_samples=1, batch_size=1)
    assert not losses.verified and record.losses.shape == (1, )


def test_only_the_outermost_loss_modules_count():
    model = nn.ModuleDict(
        dict(
            head=Holder(
                build_loss('mmpretrain', 'LabelSmoothLoss',
                           dict(label_smooth_val=0.1))),
            aux=build_loss('mmpose', 'MultipleLossWrapper', dict(
                losses=[dict(type='MSELoss'), dict(type='L1Loss')]))))
    assert sorted(ausam_mm.losses.loss_modules(model)) == [
        'aux.loss_modules.0', 'aux.loss_modules.1', 'head.loss_module'
    ]
