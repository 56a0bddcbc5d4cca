"""Overflows, loss scales, clipping, and waiting for the device."""

import copy
from contextlib import contextmanager
from itertools import count

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ausam_mm.engine import Perturbation

from ..toy import ToyModel, batch, build, reference_step, sample_losses, wrap

INF = float('inf')


class Overflowing(ToyModel):
    """The gradients of the chosen forward passes are infinite."""

    bad = ()

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = count()  # no attribute that a step would put back

    def forward(self, inputs, data_samples=None, mode='tensor'):
        pred = self.net(inputs.to(next(self.parameters()).dtype))
        if self.net[1].training and next(self.calls) in self.bad:
            pred.register_hook(lambda grad: grad * INF)
        target = torch.stack([sample.gt for sample in data_samples])
        return dict(loss=self.loss_module(pred.float(), target.float()))


def overflowing(bad=(), accumulation=1, alpha=1., scale=2.**10, **options):
    torch.manual_seed(0)
    model = Overflowing(norm=True).train()
    model.bad = bad
    wrapper = wrap(
        model, type='AUSAM', rho=0.3, alpha=alpha, warmup_iters=0,
        accumulative_counts=accumulation,
        base=dict(type='CPUAmpOptimWrapper', dtype='float16',
                  loss_scale=scale), **options)
    return model, wrapper


def snapshot(model, wrapper):
    momentum = [state['momentum_buffer'] for state in
                wrapper.optimizer.state.values()]
    return copy.deepcopy([list(model.parameters()), momentum])


# Two passes a step: the calls 4 and 5 are the third step's.
@pytest.mark.parametrize('bad', [(4, ), (5, ), (4, 5)], ids=str)
@pytest.mark.parametrize('alpha', [1., (0.25, 0.75)], ids=str)
def test_an_overflow_in_either_pass_skips_the_step(bad, alpha):
    model, wrapper = overflowing(bad, alpha=alpha)
    for step in range(2):
        model.train_step(batch(step), wrapper)
    before = snapshot(model, wrapper)
    counts = wrapper.history.counts(torch.arange(16))
    assert wrapper.loss_scaler.get_scale() == 2**10
    model.train_step(batch(2), wrapper)
    torch.testing.assert_close(snapshot(model, wrapper), before, rtol=0,
                               atol=0)
    assert wrapper.loss_scaler.get_scale() == 2**9
    assert wrapper.skipped_perturbations == (4 in bad)
    assert wrapper.skipped_steps == 0  # the scaler's own business
    new = wrapper.history.counts(torch.arange(16)) - counts
    # Without a perturbation the loss at w + eps is unknown.
    assert new.sum() == (0 if 4 in bad else 16 * (alpha if alpha == 1 else
                                                 alpha[0]))
    for step in range(3, 6):
        model.train_step(batch(step), wrapper)
    after = snapshot(model, wrapper)
    assert not torch.equal(after[0][0], before[0][0])
    assert all(value.isfinite().all() for part in after for value in part)
    assert wrapper.history.means(torch.arange(16)).isfinite().all()
    assert model.net[1].running_mean.isfinite().all()


@pytest.mark.parametrize('bad', [(), (2, ), (3, )], ids=str)
@pytest.mark.parametrize('adaptive', [False, True])
def test_a_perturbation_without_reading_the_norm_is_the_same(monkeypatch, bad,
                                                         adaptive):
    """What is done on an accelerator, where no one reads the norm."""
    states = []
    for at_hand in (True, False):
        monkeypatch.setattr(Perturbation, '_is_at_hand',
                            lambda self, norm, a=at_hand: a)
        model, wrapper = overflowing(bad, alpha=(0.25, 0.75),
                                     adaptive=adaptive)
        for step in range(6):
            model.train_step(batch(step), wrapper)
        states.append([snapshot(model, wrapper), dict(model.named_buffers())])
        assert model.net[1].running_mean.isfinite().all()
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('bad', [(2, ), (3, ), (4, )], ids=str)
def test_an_overflow_in_a_micro_batch_skips_the_whole_step(bad):
    model, wrapper = overflowing(bad, accumulation=3)
    before = copy.deepcopy(list(model.parameters()))
    for step in range(3):
        model.train_step(batch(step), wrapper)
    torch.testing.assert_close(list(model.parameters()), before, rtol=0,
                               atol=0)
    assert wrapper.loss_scaler.get_scale() == 2**9
    for step in range(3):
        model.train_step(batch(step), wrapper)
    assert not torch.equal(model.net[0].weight, before[0])
    assert wrapper.loss_scaler.get_scale() == 2**9


def test_a_gradient_norm_beyond_half_precision_is_no_overflow():

    class Half(ToyModel):

        def forward(self, inputs, data_samples=None, mode='tensor'):
            losses = super().forward(inputs, data_samples, mode)
            return {name: loss.half() for name, loss in losses.items()}

    model = Half().double()
    wrapper = wrap(model, type='SAM', rho=0.3)
    perturb = wrapper.perturbation.perturb
    wrapper.perturbation.perturb = lambda *args: perturb(*args) * 1e6
    before = model.net[0].weight.detach().clone()
    model.train_step(batch(), wrapper)
    assert (wrapper.skipped_perturbations, wrapper.skipped_steps) == (0, 0)
    assert not torch.equal(model.net[0].weight, before)


def test_the_loss_scaler_counts_steps_and_not_passes():
    model, wrapper = overflowing()
    for step in range(5):
        model.train_step(batch(step), wrapper)
    assert wrapper.loss_scaler.state_dict()['_growth_tracker'] == 5


def test_an_overflow_leaves_a_static_loss_scale():
    model, wrapper = overflowing((4, ))
    wrapper.base._scale_update_param = 2.**10
    for step in range(4):
        model.train_step(batch(step), wrapper)
    assert wrapper.loss_scaler.get_scale() == 2**10
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_loss_scale_that_is_far_too_large_comes_down():
    model, wrapper = overflowing(scale=2.**60, alpha=(0.25, 0.75))
    before = copy.deepcopy(list(model.parameters()))
    for step in range(60):
        model.train_step(batch(step), wrapper)
    assert wrapper.loss_scaler.get_scale() < 2**30
    assert not torch.equal(model.net[0].weight, before[0])
    assert all(p.isfinite().all() for p in model.parameters())
    assert model.net[1].running_var.isfinite().all()


def test_the_norm_of_a_step_is_that_of_the_unscaled_gradient():
    model, wrapper = overflowing(accumulation=3)
    norms = []
    wrapper.observe = lambda step: norms.append(float(step.norm))
    losses = sample_losses(model, {
        **batch(0), 'inputs': batch(0)['inputs'].float()})
    grads = torch.autograd.grad(losses.mean(), list(model.parameters()))
    model.train_step(batch(0), wrapper)
    expected = float(torch.cat([g.flatten() for g in grads]).norm())
    assert norms == [pytest.approx(expected, rel=1e-2)]


def test_clipping_by_value_sees_the_second_gradient_only():
    model, other = build(), build()
    wrapper = wrap(model, lr=1., momentum=0., weight_decay=0., type='SAM',
                   rho=0.3, clip_grad=dict(type='value', clip_value=0.1))
    before = [p.detach().clone() for p in model.parameters()]
    model.train_step(batch(), wrapper)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.)
    reference_step(other, optimizer, batch(), 0.3)
    for p, old, q in zip(model.parameters(), before, other.parameters()):
        torch.testing.assert_close(old - p, q.grad.clamp(-0.1, 0.1))
    assert max(q.grad.abs().max() for q in other.parameters()) > 0.1


def test_shared_parameters_are_perturbed_once():

    class Tied(ToyModel):

        def __init__(self):
            super().__init__()
            shared = nn.Linear(6, 6)
            self.net = nn.Sequential(shared, nn.Tanh(), shared,
                                     nn.Linear(6, 3))

    torch.manual_seed(0)
    model = Tied().double()
    other = copy.deepcopy(model)
    wrapper = wrap(model, type='SAM', rho=0.3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9,
                                weight_decay=1e-3)
    for step in range(10):
        model.train_step(batch(step), wrapper)
        reference_step(other, optimizer, batch(step), 0.3)
    torch.testing.assert_close(list(model.parameters()),
                               list(other.parameters()), rtol=0, atol=1e-9)


class Reads(TorchDispatchMode):
    """Counts how often a tensor's value is read by Python."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten._local_scalar_dense.default,
                        torch.ops.aten.is_nonzero.default,
                        torch.ops.aten.nonzero.default):
            self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('method', ['SAM', 'AUSAM'])
@pytest.mark.parametrize('base,expected', [
    # GradScaler.step reads whether the gradients are finite; so must the
    # engine where nobody else does. MMEngine reads the norm that it clips by.
    (dict(type='CPUAmpOptimWrapper', dtype='bfloat16'), 0),
    (None, 1),
    (dict(clip_grad=dict(max_norm=1.)), 0),
    (dict(clip_grad=dict(type='value', clip_value=1.)), 1),
], ids=str)
def test_nothing_waits_for_the_device_before_the_step(
        method, base, expected, monkeypatch):
    monkeypatch.setattr(Perturbation, '_is_at_hand', lambda self, norm: False)
    torch.manual_seed(0)
    model = ToyModel(norm=True, dropout=0.1).train()
    options = dict(warmup_iters=1) if method == 'AUSAM' else {}
    wrapper = wrap(  # MMEngine takes the type out of clip_grad
        model, type=method, rho=0.3, base=copy.deepcopy(base), **options)
    for step in range(2):
        model.train_step(batch(step), wrapper)
    reads = Reads()
    before, within = [], []
    step, forward = wrapper.base.step, model.net[0].forward

    def base_step(**kwargs):
        before.append(reads.count)
        step(**kwargs)
        within.append(reads.count - before[-1])

    def first_layer(*args):
        if not before:  # from the first pass on, after the selection
            before.append(None)
            reads.__enter__()
        return forward(*args)

    wrapper.base.step = base_step
    model.net[0].forward = first_layer
    model.train_step(batch(2), wrapper)
    reads.__exit__(None, None, None)
    assert before == [None, expected]
    assert within == [expected == 0]
    assert reads.count > 0  # logging reads; the mode was active


@pytest.mark.parametrize('method', ['SAM', 'AUSAM'])
def test_layer_decay_of_mmpretrain_trains_with_a_scheduled_rho(method):
    pytest.importorskip('mmpretrain')
    from mmengine.optim import LinearParamScheduler, build_optim_wrapper
    from mmengine.registry import MODELS, init_default_scope
    from mmpretrain.structures import DataSample
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.VisionTransformer', img_size=16, patch_size=8,
            arch=dict(embed_dims=8, num_layers=2, num_heads=2,
                      feedforward_channels=16), drop_path_rate=0.1),
        head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=3,
                  in_channels=8)))
    model.init_weights()
    model.train()
    wrapper = build_optim_wrapper(model, dict(
        type=method, rho=0.2, optimizer=dict(
            type='AdamW', lr=1e-3, weight_decay=0.05),
        clip_grad=dict(max_norm=1.), accumulative_counts=2,
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5)))
    groups = wrapper.optimizer.param_groups
    assert len({group['lr'] for group in groups}) > 1
    assert {group['rho'] for group in groups} == {0.2}
    scheduler = LinearParamScheduler(
        wrapper, param_name='rho', start_factor=0.5, begin=0, end=4)
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i % 3)
               for i in range(6)]
    before = [p.detach().clone() for p in model.parameters()]
    for _step in range(4):
        model.train_step(
            dict(inputs=torch.rand(6, 3, 16, 16), data_samples=samples),
            wrapper)
        scheduler.step()
    assert [group['rho'] for group in groups] == pytest.approx(
        [0.2] * len(groups))
    moved = [not torch.equal(p, old)
             for p, old in zip(model.parameters(), before)]
    assert sum(moved) > 0.9 * len(moved)
    assert wrapper.num_steps == 4 and wrapper.skipped_perturbations == 0
    assert OPTIM_WRAPPERS.get(method) is type(wrapper)


class Apex:
    """What ApexOptimWrapper calls of apex.amp, scaling by a constant."""

    scale = 2.**6
    scaled = 0

    def initialize(self, model, optimizer, **kwargs):
        optimizer._amp_stash = self
        return model, optimizer

    @contextmanager
    def scale_loss(self, loss, optimizer):
        self.scaled += 1
        yield loss * self.scale
        for group in optimizer.param_groups:
            for p in group['params']:
                p.grad /= self.scale


@pytest.mark.parametrize('method', ['SAM', 'AUSAM'])
def test_apex_can_be_the_base(method, monkeypatch):
    apex = Apex()
    monkeypatch.setattr(
        'mmengine.optim.optimizer.apex_optimizer_wrapper.apex_amp', apex)
    models = []
    for base in (dict(type='ApexOptimWrapper'), None):
        model = build()
        options = dict(seed=0, warmup_iters=1) if method == 'AUSAM' else {}
        wrapper = wrap(model, type=method, rho=0.3, base=base, **options)
        for step in range(5):
            model.train_step(batch(step), wrapper)
        models.append(model)
    assert apex.scaled == 10
    torch.testing.assert_close(
        list(models[0].parameters()), list(models[1].parameters()), rtol=0,
        atol=1e-12)
