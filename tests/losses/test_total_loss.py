"""The loss of a sample is what the model's total loss says it is.

Each case was silently wrong once: it is right now, or refused.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ausam_mm

from .. import amp  # noqa: F401
from ..toy import batch as made_up
from ..toy import build, wrap
from .toy import (
    CLASSES,
    INVERSE,
    SIZE,
    ausam,
    batch,
    gradient,
    make,
    own_losses,
    part,
    record,
    total_of,
)

WEIGHTS = torch.tensor([1., 2., 3., 4., .5]).double()


class DualLoss(nn.Module):
    """One module, called with one reduction and then with the other."""

    def forward(self, pred, labels, how='mean'):
        return F.cross_entropy(pred, labels, reduction=how)


class ClassVectorLoss(nn.Module):
    """Gets a vector of classes whose length may be that of a sub-batch."""

    def forward(self, pred, labels, weights):
        return (F.binary_cross_entropy_with_logits(
            pred, labels, reduction='none') * weights).mean()


class NCELoss(nn.Module):
    """Contrastive: a sample alone has loss 0."""

    def forward(self, ones, others):
        return F.cross_entropy(
            F.normalize(ones) @ F.normalize(others).t() / .1,
            torch.arange(len(ones)))


class OHEMLoss(nn.Module):

    def forward(self, pred, labels):
        return F.cross_entropy(pred, labels, reduction='none').topk(
            max(1, len(labels) // 4)).values.mean()


class VisibleMSELoss(nn.Module):
    """Divides by the number of visible values of the batch."""

    def forward(self, pred, labels):
        visible = (labels.abs() < 5).to(pred)
        target = torch.where(visible > 0, labels, 0)
        return ((pred - target)**2 * visible).sum() / visible.sum().clamp(1)


class AnnealedLoss(nn.Module):
    """Counts its calls, and is scaled by them."""

    def __init__(self, mappable):
        super().__init__()
        self.calls, self.mappable = 0, mappable

    def forward(self, pred, labels):
        self.calls += 1
        losses = (pred - F.one_hot(labels, CLASSES)).pow(2)
        if not self.mappable:
            losses = losses[losses >= 0]
        return losses.mean() / self.calls


CE = nn.CrossEntropyLoss
NONE = dict(l=CE(reduction='none'))


def summed(model, features, labels):
    return model.l(model.fc(features), labels).sum()


def weighted_outside(model, features, labels):
    return (model.l(model.fc(features), labels) * WEIGHTS[labels]).mean()


def scaled_outside(model, features, labels):
    return .1 * model.l(model.fc(features), labels) + \
        3 * model.m(model.aux(features), labels)


def beside_a_metric(model, features, labels):
    with torch.no_grad():
        metric = model.l(model.aux(features), labels)
    return dict(loss=model.l(model.fc(features), labels), metric=metric)


def twice(model, features, labels):
    return dict(
        loss_a=model.l(model.fc(features), labels),
        loss_b=model.l(model.aux(features), labels, 'sum'))


def averaged_sum(model, features, labels):
    return model.l(model.fc(features), labels) / len(labels)


def uncertainty(model, features, labels):
    """Weights that are learned, with a part that no batch changes."""
    log = model.fc.bias[0]
    return torch.exp(-log) * model.l(model.fc(features), labels) + log


def decay(model, features, labels):
    return dict(loss=model.l(model.fc(features), labels),
                loss_w=1e-2 * sum(p.pow(2).sum() for p in model.parameters()))


def in_place(model, features, labels):
    loss = model.l(model.fc(features), labels)
    loss += .5 * model.m(model.aux(features), labels)
    return loss


# A loss, its modules, what the total makes of them, kind of labels.
RIGHT = dict(
    none_sum=(summed, NONE, 'sum'),
    none_weighted=(weighted_outside, NONE, 'mean'),
    scaled_outside=(scaled_outside, dict(l=CE(), m=CE()), 'mean'),
    beside_a_metric=(beside_a_metric, dict(l=CE()), 'mean'),
    averaged_sum=(averaged_sum, dict(l=CE(reduction='sum')), 'mean'),
    uncertainty=(uncertainty, dict(l=CE()), 'mean'),
    in_place=(in_place, dict(l=CE(), m=CE(reduction='mean')), 'mean'),
    zero_init=(lambda m, h, y: m.l(m.fc(h), y), dict(l=CE()), 'mean'))


@pytest.mark.parametrize('options', [{}, INVERSE], ids=['', 'inverse'])
@pytest.mark.parametrize('name', RIGHT)
def test_losses_and_gradients_are_those_of_the_total(name, options):
    loss_of, modules, how = RIGHT[name]
    model = make(loss_of, zero_init=name == 'zero_init', **modules)
    if name == 'zero_init':  # equal losses tell nothing
        wrapper = ausam(model, **options)
        model.train_step(batch(1), wrapper)
        assert not wrapper.losses_verified
        nn.init.normal_(model.fc.weight)
    wrapper = ausam(model, **options)
    steps, grads = record(wrapper)
    model.train_step(batch(1), wrapper)
    for seed in (2, 3):
        data = batch(seed, first=100 * seed)
        model.train_step(data, wrapper)
        seen = steps[-1].selection.descent.tolist()
        assert len(seen) == SIZE // 2
        own = own_losses(model, part(data, seen))
        if name == 'uncertainty':  # what is of no sample is in no loss
            own = own - model.fc.bias[0].detach()
        torch.testing.assert_close(steps[-1].first.losses, own, rtol=1e-6,
                                   atol=1e-9)
        # Per sample, weighted as the selection says, plus what is of none.
        weights = steps[-1].selection.descent_weights
        if weights is None:
            weights = torch.full((len(seen), ), 1 / len(seen))
        expected = 0
        for weight, i in zip(weights, seen):
            alone = gradient(total_of(model, part(data, [i])), model)
            rest = gradient(model.fc.bias[0] + 0., model) \
                if name == 'uncertainty' else 0
            expected = expected + weight * (alone - rest) * (
                SIZE if how == 'sum' else 1)
        if name == 'uncertainty':
            expected = expected + rest
        torch.testing.assert_close(grads[-1], expected, rtol=1e-3, atol=1e-6)
    assert set(wrapper.reductions.values()) == {how}


def test_a_module_called_twice_has_a_reduction_for_each_call():
    model = make(twice, l=DualLoss())
    wrapper = ausam(model)
    steps, grads = record(wrapper)
    model.train_step(batch(1), wrapper)
    data = batch(3, first=100, identical=True)
    model.train_step(data, wrapper)
    assert wrapper.reductions == {'l': 'mean', 'l#2': 'sum'}
    # Of equal samples a half has the gradient of the full batch.
    torch.testing.assert_close(
        grads[-1], gradient(total_of(model, data), model), rtol=1e-3,
        atol=1e-6)


def test_a_part_of_the_total_that_is_no_samples_is_left_as_it_is():
    model = make(decay, l=CE())
    wrapper = ausam(model)
    steps, grads = record(wrapper)
    model.train_step(batch(1), wrapper)
    data = batch(2, first=100)
    model.train_step(data, wrapper)
    seen = steps[-1].selection.descent.tolist()
    torch.testing.assert_close(
        grads[-1], gradient(total_of(model, part(data, seen)), model),
        rtol=1e-3, atol=1e-6)


def test_which_arguments_are_per_sample_is_not_told_by_a_sub_batch():
    model = make(lambda m, h, y: m.l(m.fc(h), y, WEIGHTS), l=ClassVectorLoss())
    for options in ({}, INVERSE):
        wrapper = ausam(model, **options)
        steps, _ = record(wrapper)
        for seed in (1, 2):
            data = batch(seed, 10, 100 * seed, 'multi')
            model.train_step(data, wrapper)
        seen = steps[-1].selection.descent.tolist()
        assert len(seen) == CLASSES
        torch.testing.assert_close(
            steps[-1].first.losses, own_losses(model, part(data, seen)))


@pytest.mark.parametrize('mappable', [True, False])
@pytest.mark.parametrize('method', ['SAM', 'AUSAM', 'KSAM'])
def test_a_counter_in_a_loss_counts_steps(mappable, method):
    model = make(lambda m, h, y: m.l(m.fc(h), y), l=AnnealedLoss(mappable))
    wrapper = ausam(model) if method == 'AUSAM' else wrap(
        model, type=method, rho=1e-4)
    for step in range(4):
        model.train_step(batch(step, first=100 * step), wrapper)
        assert model.l.calls == step + 1


class PrototypeLoss(nn.Module):
    """Its product is in bfloat16 under autocast."""

    def __init__(self):
        super().__init__()
        self.register_buffer('prototypes', torch.eye(CLASSES) + 1 / 3)

    def forward(self, pred, labels):
        return F.cross_entropy(pred @ self.prototypes, labels)


BF16 = dict(type='CPUAmpOptimWrapper', dtype='bfloat16')


# Within the forward pass, and around it.
@pytest.mark.parametrize('inside,options,loss', [
    (True, {}, CE), (False, dict(base=BF16), PrototypeLoss)],
    ids=['turns it on', 'turns it off'])
def test_a_loss_has_the_precision_that_the_model_calls_it_in(
        inside, options, loss):
    def loss_of(model, features, labels):
        with torch.autocast('cpu', torch.bfloat16, enabled=inside):
            return model.l(model.fc(features.float()), labels)

    model = make(loss_of, l=loss()).float()
    wrapper = ausam(model, **options)
    steps, _ = record(wrapper)
    for seed in (1, 2):
        data = batch(seed, first=100 * seed)
        data['inputs'] = data['inputs'].float()
        model.train_step(data, wrapper)
    assert wrapper.losses_verified
    data = part(data, steps[-1].selection.descent.tolist())
    with torch.autocast('cpu', torch.bfloat16, enabled=not inside):
        own = own_losses(model, data)
    torch.testing.assert_close(
        steps[-1].first.losses, own, rtol=1e-2, atol=1e-3)


def test_in_mixed_precision_a_loss_may_depend_on_the_size_of_a_batch():
    """As far as bfloat16 rounds, which kernels of other sizes do otherwise."""
    def moved(model, features, labels):
        rounding = 1 + 1e-2 * (len(labels) < SIZE)
        return model.l(model.fc(features * rounding), labels)

    def within(model, features, labels):
        with torch.autocast('cpu', torch.bfloat16):
            return moved(model, features, labels)

    model = make(within, l=CE())
    wrapper = ausam(model)
    for seed in (1, 2):
        model.train_step(batch(seed, first=100 * seed), wrapper)
    assert wrapper.losses_verified
    assert 'compares the samples' in refused(moved, l=CE())


def refused(loss_of, data=batch, first=(), options=None, **modules):
    """The message of a training of three steps, after some other batches."""
    model = make(loss_of, **modules)
    wrapper = ausam(model, **(options or {}))
    for batch_of in first:
        model.train_step(batch_of, wrapper)
    with pytest.raises(ValueError) as error:
        for seed in range(1, 4):
            model.train_step(data(seed, first=100 * seed), wrapper)
    return str(error.value)


class BatchNormAct(nn.BatchNorm1d):
    """timm's: a normalization that has a module of its own."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


def test_a_batchnorm_with_an_activation_inside_is_trained():
    model = build()
    model.net.insert(1, BatchNormAct(model.net[0].out_features).double())
    wrapper = wrap(model, type='AUSAM', warmup_iters=1, ramp_iters=0)
    for i in range(3):
        model.train_step(made_up(i), wrapper)
    assert wrapper.losses_verified
    assert wrapper.samples_backpropagated < 3 * wrapper.samples_loaded


@pytest.mark.parametrize('beside', [True, False])
def test_losses_that_are_0_on_a_sample_alone_are_refused(beside):
    message = refused(
        lambda m, h, y: dict(
            loss_n=m.n(m.fc(h), m.aux(h)),
            **(dict(loss_l=m.l(m.fc(h), y)) if beside else {})),
        l=CE(), n=NCELoss())
    assert '`n` (NCELoss)' in message
    assert 'compares the samples of the batch with each other' in message


def test_samples_that_the_model_reorders_are_refused():
    message = refused(lambda m, h, y: (lambda order: m.l(
        m.fc(h)[order], y[order]))(h[:, 0].argsort()), l=CE())
    assert 'reorders the samples' in message


@pytest.mark.parametrize('how', ['sum', 'mean'])
def test_a_part_of_the_loss_outside_the_modules_is_refused(how):
    message = refused(lambda m, h, y: dict(
        loss_a=m.l(m.fc(h), y),
        loss_b=F.cross_entropy(m.aux(h), y, reduction=how)), l=CE())
    assert 'outside of the loss modules `l`' in message


@pytest.mark.parametrize('zero_init', [True, False])
def test_what_ranks_or_weights_over_the_batch_is_refused_in_time(zero_init):
    """Also where the first losses are equal, before samples are left out."""
    loss_of = lambda m, h, y: m.l(m.fc(h), y)  # noqa: E731
    model = make(loss_of, zero_init=zero_init, l=OHEMLoss())
    wrapper = ausam(model)
    steps, _ = record(wrapper)
    with pytest.raises(ValueError, match='OHEMLoss.*divides by something'):
        for seed in range(1, 40):
            model.train_step(batch(seed, 64), wrapper)
            assert len(steps[-1].selection.descent) == 64
            nn.init.normal_(model.fc.weight, std=0.1 * seed)


def test_a_count_that_the_first_batch_hides_is_refused_when_it_shows():
    def data(seed, first):
        some = batch(seed, first=first, kind='vector')
        for i, sample in enumerate(some['data_samples']):
            sample.gt = sample.gt.clone()
            sample.gt[:i // 3] = 9.  # invisible
        return some

    message = refused(
        lambda m, h, y: m.l(m.fc(h), y), data,
        [batch(seed, first=900 + 20 * seed, kind='vector')
         for seed in (1, 2)], INVERSE, l=VisibleMSELoss())
    assert 'VisibleMSELoss' in message


def test_a_mean_that_the_model_ranks_is_refused():
    message = refused(lambda m, h, y: m.l(m.fc(h), y).topk(3).values.mean(),
                      **NONE)
    assert 'depends on the other samples' in message


def test_a_total_that_is_no_weighted_sum_is_refused():
    message = refused(lambda m, h, y: m.l(m.fc(h), y)**2, l=CE())
    assert 'outside' in message or 'depends on the other samples' in message


def test_a_loss_that_changes_a_buffer_is_refused():

    class CenterLoss(nn.Module):

        def __init__(self):
            super().__init__()
            self.register_buffer('center', torch.zeros(CLASSES).double())

        def forward(self, pred, labels):
            self.center.lerp_(pred.detach().mean(0), .1)
            return (pred - self.center).pow(2).mean()

    message = refused(lambda m, h, y: m.l(m.fc(h), y), l=CenterLoss())
    assert 'changes its buffer `center` at every call' in message


def test_a_part_outside_that_comes_later_stops_the_training():
    parts = []
    model = make(lambda m, h, y: dict(
        loss=m.l(m.fc(h), y), **{f'loss_{i}': m.aux(h).pow(2).mean()
                                 for i in parts}), l=CE())
    wrapper = ausam(model)
    for seed in range(3):
        model.train_step(batch(seed, first=100 * seed), wrapper)
    parts.append('outside')
    with pytest.raises(ValueError, match='outside of the loss modules `l`'):
        model.train_step(batch(9, first=900), wrapper)


def test_a_change_of_mind_stops_the_training():
    """A loss that is a mean at first and a sum later."""

    class FickleLoss(nn.Module):
        how = 'mean'

        def forward(self, pred, labels):
            return F.cross_entropy(pred, labels, reduction=self.how)

    model = make(lambda m, h, y: m.l(m.fc(h), y), l=FickleLoss())
    wrapper = ausam(model)
    for seed in range(3):
        model.train_step(batch(seed, first=100 * seed), wrapper)
    model.l.how = 'sum'
    with pytest.raises(ValueError, match='`l` .FickleLoss.'):
        model.train_step(batch(9, first=900), wrapper)


def test_an_error_in_a_users_rule_names_the_module_and_the_rule(monkeypatch):
    from ausam_mm.losses import rules
    monkeypatch.setattr(rules, '_RULES', dict(rules._RULES))

    @ausam_mm.register_per_sample_loss(DualLoss)
    def my_rule(module, pred, labels, how='mean'):
        return pred.no_such_method()

    message = refused(lambda m, h, y: m.l(m.fc(h), y), l=DualLoss())
    assert '`l` (DualLoss)' in message and 'my_rule' in message
    assert 'AttributeError' in message


def test_a_rule_whose_terms_sum_to_an_average_is_refused(monkeypatch):
    from ausam_mm.losses import rules
    monkeypatch.setattr(rules, '_RULES', dict(rules._RULES))

    @ausam_mm.register_per_sample_loss(DualLoss)
    def average(module, pred, labels):
        return F.cross_entropy(pred, labels, reduction='none') / len(pred)

    assert 'DualLoss' in refused(
        lambda m, h, y: m.l(m.fc(h), y), l=DualLoss())


def test_a_rule_is_told_the_number_of_samples(monkeypatch):
    """So that it can put flattened tokens together."""
    from ausam_mm.losses import rules
    monkeypatch.setattr(rules, '_RULES', dict(rules._RULES))

    class TokenLoss(nn.Module):

        def forward(self, pred, labels):
            return F.cross_entropy(pred, labels)

    @ausam_mm.register_per_sample_loss(TokenLoss)
    def tokens(module, pred, labels, num_samples):
        return F.cross_entropy(pred, labels, reduction='none').reshape(
            num_samples, -1).mean(1)

    model = make(lambda m, h, y: m.l(torch.stack(
        [m.fc(h), m.aux(h)], 1).flatten(0, 1), y.repeat_interleave(2)),
        l=TokenLoss())
    wrapper = ausam(model)
    steps, _ = record(wrapper)
    for seed in (1, 2):
        data = batch(seed, first=100 * seed)
        model.train_step(data, wrapper)
    seen = steps[-1].selection.descent.tolist()
    assert len(seen) == SIZE // 2
    torch.testing.assert_close(
        steps[-1].first.losses, own_losses(model, part(data, seen)))


def test_ignored_labels_have_loss_0_and_skip_no_step():
    """Also where the first batch has none of them."""
    model = make(lambda m, h, y: m.l(m.fc(h), y), l=CE(weight=WEIGHTS.clone()))
    wrapper = ausam(model, **INVERSE)
    steps, grads = record(wrapper)
    model.train_step(batch(1, first=100), wrapper)
    data = batch(2)
    for sample in data['data_samples'][::3]:
        sample.gt = torch.tensor(-100)
    for _ in range(60):
        model.train_step(data, wrapper)
        assert len(steps[-1].selection.descent) == SIZE // 2
    assert wrapper.skipped_steps == 0
    scores = wrapper.history.means(torch.arange(SIZE))
    assert scores.isfinite().all()
    assert scores[::3].max() < scores[scores > 0].min()


def test_a_criterion_that_is_compiled_is_seen():
    model = make(lambda m, h, y: m.l(m.fc(h), y),
                 l=torch.compile(CE(), backend='eager'))
    wrapper = ausam(model)
    steps, _ = record(wrapper)
    for seed in (1, 2):
        data = batch(seed, first=100 * seed)
        model.train_step(data, wrapper)
    seen = steps[-1].selection.descent.tolist()
    torch.testing.assert_close(
        steps[-1].first.losses, own_losses(model, part(data, seen)))


def test_ctc_is_refused_since_its_predictions_have_the_time_first():
    message = refused(lambda m, h, y: m.l(
        m.fc(h).log_softmax(1)[None].repeat(4, 1, 1), y[:, None] * 0 + 1,
        torch.full((len(y), ), 4), torch.full((len(y), ), 1)),
        l=nn.CTCLoss())
    assert 'time' in message and 'CTCLoss' in message
