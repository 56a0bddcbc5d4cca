"""What a step leaves as it was, and what its two passes share."""

import copy
import math

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import LinearParamScheduler
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ausam_mm.engine import Perturbation

from ..toy import (
    ToyModel,
    batch,
    build,
    record_selections,
    wrap,
)


def ausam(model, **options):
    options = {**dict(rho=0.3, alpha=0.5, warmup_iters=1), **options}
    return wrap(model, type='AUSAM', **options)


@pytest.mark.parametrize('alpha', [1., 0.5, (0.25, 0.75)], ids=str)
def test_weights_are_restored_bit_for_bit_in_their_own_storage(alpha):
    model = build(norm=True)
    wrapper = ausam(model, alpha=alpha, lr=0.)
    before = [p.detach().clone() for p in model.parameters()]
    storage = [p.data_ptr() for p in model.parameters()]
    moved = []
    model.net.register_forward_hook(
        lambda *_: moved.append(not torch.equal(model.net[0].weight, before[0])
                                ) if model.net[1].training else None)
    for i in range(4):
        model.train_step(batch(i), wrapper)
    assert moved == [False, True] * 4
    for p, old, address in zip(model.parameters(), before, storage):
        assert torch.equal(p, old)
        assert p.data_ptr() == address


def test_a_tensor_that_shares_a_weights_memory_sees_the_perturbation():
    model = build()
    wrapper = wrap(model, type='SAM', rho=0.3, lr=0.)
    weight, bias = model.net[0].weight, model.net[0].bias
    alias, before, seen = weight.detach(), weight.detach().clone(), []
    addresses = weight.data_ptr(), bias.data_ptr()

    def look(*_):
        assert torch.equal(alias, weight)
        seen.append((torch.equal(alias, before),
                     (weight.data_ptr(), bias.data_ptr()) == addresses))

    model.net.register_forward_hook(look)
    for i in range(2):
        model.train_step(batch(i), wrapper)
    # What nobody else sees is at another place for the second pass.
    assert seen == [(True, True), (False, False)] * 2
    assert weight.data_ptr() == addresses[0]
    assert torch.equal(alias, before) and torch.equal(weight, before)


def test_weights_are_restored_when_the_second_pass_fails():
    model = build()
    wrapper = wrap(model, type='SAM', rho=0.3)
    before = [p.detach().clone() for p in model.parameters()]
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    model.net.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        model.train_step(batch(), wrapper)
    for p, old in zip(model.parameters(), before):
        assert torch.equal(p, old)


@pytest.mark.parametrize('at_hand', [True, False])
def test_weights_are_restored_when_the_perturbation_breaks_off(
        at_hand, monkeypatch):
    monkeypatch.setattr(Perturbation, '_is_at_hand', lambda *_: at_hand)
    model = build()
    wrapper = wrap(model, type='SAM', rho=0.3)
    model.train_step(batch(0), wrapper)  # the saved copies are of old weights
    group = wrapper.optimizer.param_groups[0]
    last = group['params'].pop()
    wrapper.optimizer.add_param_group(dict(params=[last], rho='none'))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(TypeError):
        model.train_step(batch(1), wrapper)
    for p, old in zip(model.parameters(), before):
        assert torch.equal(p, old)


def test_no_hooks_stay_on_the_model():
    model = build()
    wrapper = ausam(model)
    for i in range(3):
        model.train_step(batch(i), wrapper)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize('alpha', [1., 0.5], ids=str)
def test_batchnorm_statistics_move_once_in_the_first_pass(alpha):
    model, once = build(norm=True), build(norm=True)
    wrapper = ausam(model, alpha=alpha, lr=0.)
    selections = record_selections(wrapper)
    for i in range(3):
        model.train_step(batch(i), wrapper)
        once.net(batch(i)['inputs'][selections[-1].descent])
    assert int(model.net[1].num_batches_tracked) == 3
    torch.testing.assert_close(model.net[1].running_mean,
                               once.net[1].running_mean)
    torch.testing.assert_close(model.net[1].running_var,
                               once.net[1].running_var)
    assert model.net[1].track_running_stats


def test_batchnorm_statistics_move_in_the_pass_that_sees_more():
    model = build(norm=True)
    wrapper = ausam(model, alpha=(0.25, 0.75))
    model.train_step(batch(0), wrapper)
    sizes, means = [], []

    def record(module, args, output):
        sizes.append(len(output))
        means.append(args[0].mean(0))

    model.net[1].register_forward_hook(record)
    before = model.net[1].running_mean.clone()
    model.train_step(batch(1), wrapper)
    assert sizes == [4, 12]
    torch.testing.assert_close(model.net[1].running_mean,
                               0.9 * before + 0.1 * means[1])
    assert int(model.net[1].num_batches_tracked) == 2


@pytest.mark.parametrize('match_rng', [True, False])
def test_dropout_has_the_same_masks_in_both_passes_if_asked(match_rng):
    model = build(dropout=0.5)
    wrapper = ausam(model, match_rng=match_rng)
    masks = []
    model.net[2].register_forward_hook(
        lambda module, args, output: masks.append(output == 0)
        if module.training else None)
    for i in range(3):
        model.train_step(batch(i), wrapper)
    same = [torch.equal(a, b) for a, b in zip(masks[::2], masks[1::2])]
    assert same == [match_rng] * 3
    assert not torch.equal(masks[2], masks[4])


def test_random_numbers_continue_after_a_step_as_after_one_pass():
    base, sam = build(dropout=0.5), build(dropout=0.5)
    ends = []
    for model, wrapper in ((base, wrap(base, type='OptimWrapper')),
                           (sam, wrap(sam, type='SAM'))):
        torch.manual_seed(3)
        model.train_step(batch(), wrapper)
        ends.append(torch.rand(1))
    assert ends[0] == ends[1]


@pytest.mark.parametrize('size', [1, 2, 3])
def test_batches_of_one_to_three_samples_train(size):
    model = build()
    wrapper = ausam(model, alpha=0.5)
    for i in range(5):
        model.train_step(batch(i, size=size), wrapper)
    assert all(p.isfinite().all() for p in model.parameters())
    assert wrapper.samples_loaded == 5 * size


def test_zero_gradients_leave_the_weights():
    model = build()
    data = batch()
    with torch.no_grad():
        pred = model.net(data['inputs'])
    for sample, target in zip(data['data_samples'], pred):
        sample.gt = target
    wrapper = ausam(model, weight_decay=0.)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        model.train_step(data, wrapper)
    for p, old in zip(model.parameters(), before):
        torch.testing.assert_close(p, old, rtol=0, atol=1e-12)
    means = wrapper.history.means(torch.arange(16))
    assert means.isfinite().all() and means.max() < 1e-12


@pytest.mark.parametrize('alpha', [1., 0.5, (0.25, 0.75)], ids=str)
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_losses_that_are_not_finite_change_neither_weights_nor_history(
        alpha, bad):
    model = build()
    wrapper = ausam(model, alpha=alpha)
    model.train_step(batch(0), wrapper)
    before = [p.detach().clone() for p in model.parameters()]
    broken = batch(1)
    for sample in broken['data_samples']:
        sample.gt = sample.gt * bad
    model.train_step(broken, wrapper)
    for p, old in zip(model.parameters(), before):
        assert torch.equal(p, old)
    assert (wrapper.skipped_perturbations, wrapper.skipped_steps) == (1, 1)
    assert wrapper.history.counts(torch.arange(16)).eq(1).all()
    for i in range(2, 6):
        model.train_step(batch(i), wrapper)
    assert all(p.isfinite().all() for p in model.parameters())
    # Which count as the lowest until they are used again.
    assert wrapper.history.state_dict()['means'].isfinite().all()


def test_a_loss_that_breaks_only_at_the_perturbed_weights_is_skipped():

    class Cliff(ToyModel):

        def forward(self, inputs, data_samples=None, mode='tensor'):
            losses = super().forward(inputs, data_samples, mode)
            moved = not torch.equal(self.net[0].weight, self.at_w)
            return {k: v * (math.nan if moved else 1)
                    for k, v in losses.items()}

    torch.manual_seed(0)
    model = Cliff().double().train()
    model.at_w = model.net[0].weight.detach().clone()
    wrapper = wrap(model, type='SAM', rho=0.3)
    model.train_step(batch(), wrapper)
    assert torch.equal(model.net[0].weight, model.at_w)
    assert (wrapper.skipped_perturbations, wrapper.skipped_steps) == (0, 1)


def test_frozen_and_unused_parameters_do_not_move():
    model = build()
    model.unused = nn.Parameter(torch.ones(2, dtype=torch.double))
    model.net[0].weight.requires_grad_(False)
    wrapper = ausam(model)
    frozen = model.net[0].weight.detach().clone()
    for i in range(3):
        model.train_step(batch(i), wrapper)
    assert torch.equal(model.net[0].weight, frozen)
    assert model.unused.eq(1).all()


def test_each_param_group_has_its_rho_for_schedulers():
    """A group with rho=0 is not perturbed; schedulers can set the others'."""
    model = build()
    optimizer = torch.optim.SGD([
        dict(params=model.net[0].parameters(), rho=0.),
        dict(params=model.net[2].parameters())
    ], lr=0.1)
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='SAM', rho=0.2), default_args=dict(optimizer=optimizer))
    assert [g['rho'] for g in optimizer.param_groups] == [0., 0.2]
    LinearParamScheduler(
        wrapper, param_name='rho', start_factor=0.5, begin=0, end=10)
    assert [g['rho'] for g in optimizer.param_groups] == [0., 0.1]
    moved = []
    weights = [model.net[0].weight, model.net[2].weight]
    before = [w.detach().clone() for w in weights]
    model.net.register_forward_hook(lambda *_: moved.append(
        [not torch.equal(w, b) for w, b in zip(weights, before)]))
    model.train_step(batch(), wrapper)
    assert moved == [[False, False], [False, True]]


def test_scalars_are_logged_to_the_message_hub():
    hub = MessageHub.get_instance('test_scalars')
    model = build()
    wrapper = ausam(model)
    wrapper.base.message_hub = hub
    for i in range(2):
        model.train_step(batch(i), wrapper)
    scalars = {
        name.split('/')[-1]: history.current()
        for name, history in hub.log_scalars.items()
        if name.startswith('train/ausam/')
    }
    assert scalars['ratio_used'] == 0.5
    assert scalars['samples_loaded'] == 32
    assert scalars['samples_backpropagated'] == 2 * (16 + 8)
    assert scalars['skipped_perturbations'] == 0
    assert 1 <= scalars['effective_sample_size'] <= 16
    assert scalars['grad_norm'] > 0 and scalars['mean_dlp'] > 0


class MMCVSyncBatchNorm(nn.Module):
    """As compiled mmcv's: statistics and momentum, no torch base class."""

    def __init__(self):
        super().__init__()
        self.momentum = 0.1
        self.register_buffer('running_mean', torch.zeros(16).double())

    def forward(self, x):
        if not self.training:
            return x - self.running_mean
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(0), self.momentum)
        return x - x.mean(0)


@pytest.mark.parametrize('norm', [
    lambda: nn.SyncBatchNorm(16),
    lambda: nn.SyncBatchNorm(16, momentum=None),
    lambda: nn.InstanceNorm1d(16, track_running_stats=True),
    MMCVSyncBatchNorm,
], ids=['SyncBatchNorm', 'cumulative', 'InstanceNorm', 'mmcv'])
@pytest.mark.parametrize('alpha', [1., (0.25, 0.75)], ids=str)
def test_statistics_of_every_norm_layer_move_once_a_step(norm, alpha):

    def make():
        model = build(norm=True)
        layer = norm().double()
        if isinstance(layer, nn.InstanceNorm1d):
            layer = nn.Sequential(nn.Unflatten(1, (16, 1)),
                                  nn.Upsample(scale_factor=2), layer,
                                  nn.Flatten(), nn.Linear(32, 16).double())
        model.net[1] = layer
        return model

    torch.manual_seed(0)
    model = make()
    torch.manual_seed(0)
    # At w in both passes: the second one's statistics would be those there.
    wrapper = ausam(model, alpha=alpha, lr=0., rho=0.)
    selections = record_selections(wrapper)
    once = copy.deepcopy(model)
    for i in range(3):
        model.train_step(batch(i), wrapper)
        once.net(batch(i)['inputs'][selections[-1].descent])
    expected = dict(once.named_buffers())
    assert expected
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, expected[name])
    momenta = [[m.momentum for m in network.modules()
                if hasattr(m, 'momentum')] for network in (model, once)]
    assert momenta[0] == momenta[1]
