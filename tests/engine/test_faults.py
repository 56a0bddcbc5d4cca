"""What goes wrong in a step is noticed, and leaves everything else alone."""

import logging
import math
import random

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ..toy import ToyModel, batch, build, difference, wrap

METHODS = {
    'SAM': dict(type='SAM', rho=0.3),
    'AUSAM': dict(type='AUSAM', rho=0.3, warmup_iters=1, ramp_iters=0, seed=0),
}


def train(model, wrapper, steps, data=batch):
    for i in steps:
        model.train_step(data(i), wrapper)


def broken(i, bad=(5, )):
    data = batch(i)
    if i in bad:
        data['inputs'][0, 0] = math.nan
    return data


@pytest.fixture
def messages():
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lambda: [r.getMessage() for r in records
                   if r.levelno == logging.WARNING]
    logger.removeHandler(handler)


@pytest.mark.parametrize('method', METHODS)
def test_a_skipped_step_leaves_batchnorm_statistics(method):
    model = build(norm=True)
    wrapper = wrap(model, **METHODS[method])
    train(model, wrapper, range(5))
    before = [b.clone() for b in model.buffers()]
    train(model, wrapper, [5], lambda i: broken(5))
    if wrapper.skipped_steps:  # AUSAM may not have selected the broken one
        assert all(map(torch.equal, before, model.buffers()))
    train(model, wrapper, range(6, 9))
    assert all(b.isfinite().all() for b in model.buffers())


def test_the_statistics_of_a_whole_accumulation_are_taken_back():
    model = build(norm=True)
    wrapper = wrap(model, accumulative_counts=2, **METHODS['SAM'])
    wrapper.initialize_count_status(model, 0, 8)
    train(model, wrapper, range(2))
    before = [b.clone() for b in model.buffers()]
    train(model, wrapper, (4, 5), broken)
    assert wrapper.skipped_steps == 1
    assert all(map(torch.equal, before, model.buffers()))


def test_the_first_of_some_skipped_steps_is_said(messages):
    model = build()
    wrapper = wrap(model, **METHODS['SAM'])
    train(model, wrapper, range(9), lambda i: broken(i, (2, 3, 6)))
    assert wrapper.skipped_steps == 3
    assert [m.split(',')[0] for m in messages()] == [
        'SAM skips step 2', 'SAM skips step 6']


def test_a_training_that_skips_everything_stops_with_the_remedy():
    model = build()
    wrapper = wrap(model, max_skipped_steps=4, **METHODS['SAM'])
    with pytest.raises(RuntimeError, match='skipped 4 steps in a row.*NaN'):
        train(model, wrapper, range(9), lambda i: broken(i, range(9)))
    assert wrapper.num_updates == 3


def test_a_number_of_steps_to_skip_is_checked():
    with pytest.raises(ValueError, match='max_skipped_steps=0 is no number'):
        wrap(build(), max_skipped_steps=0, **METHODS['SAM'])


@pytest.mark.parametrize('clip', [
    None, dict(max_norm=1.), dict(type='value', clip_value=1.)], ids=str)
@pytest.mark.parametrize('bad', [math.nan, math.inf])
@pytest.mark.parametrize('options', [
    *METHODS.values(), dict(METHODS['AUSAM'], alpha=(0.25, 0.75)),
    dict(type='MSAM')], ids=str)
def test_one_bad_element_of_one_gradient_skips_the_step(options, bad, clip):
    """Of a weight, not a bias and not the last, with a finite loss."""
    model = build()
    wrapper = wrap(model, clip_grad=clip, **options)
    passes = 1 if options['type'] == 'MSAM' else 2
    calls, factor = [], torch.ones(16, 6).double()
    factor[3, 4] = bad

    def spoil(grad):
        calls.append(None)
        return grad * factor if len(calls) == 3 * passes else None

    model.net[0].weight.register_hook(spoil)
    train(model, wrapper, range(2))
    before = [p.detach().clone() for p in model.parameters()]
    train(model, wrapper, [2])
    assert wrapper.skipped_steps == 1
    assert all(map(torch.equal, before, model.parameters()))
    train(model, wrapper, range(3, 6))
    assert wrapper.skipped_steps == 1
    assert all(p.isfinite().all() for p in model.parameters())
    assert not torch.equal(before[0], model.net[0].weight)


def test_clipping_by_norm_is_the_check_of_the_gradients(monkeypatch):
    """They are read once, and the step is MMEngine's with clipping."""
    model, expected = build(), build()
    clip = dict(max_norm=0.1)
    wrapper = wrap(model, clip_grad=clip, type='SAM', rho=0.)
    base = wrap(expected, clip_grad=clip, type='OptimWrapper')
    norms, clip_func = [], wrapper.base.clip_func
    monkeypatch.setattr('ausam_mm.engine.base_wrapper.vector_norm',
                        norms.append)
    for i in range(3):
        model.train_step(batch(i), wrapper)
        expected.train_step(batch(i), base)
    assert not norms
    assert difference(model, expected) == 0
    assert wrapper.base.clip_func is clip_func
    history = wrapper.message_hub.get_scalar('train/grad_norm')
    assert history.current() > 0.1


def skipping_scaler(kind):
    model = build(norm=True).float()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, fused=kind == 'fused')
    wrapper = OPTIM_WRAPPERS.build(
        dict(METHODS['SAM'], max_skipped_steps=4, base=dict(
            type='CPUAmpOptimWrapper', loss_scale=dict(
                init_scale=8., growth_interval=2))),
        default_args=dict(optimizer=optimizer))
    if kind == 'static':
        wrapper.base._scale_update_param = 8.
    return model, wrapper


SCALERS = ['dynamic', 'static', 'fused']


@pytest.mark.parametrize('kind', SCALERS)
def test_steps_that_a_loss_scaler_skips_leave_batchnorm_statistics(
        kind, messages):
    model, wrapper = skipping_scaler(kind)
    train(model, wrapper, range(4))
    scale = wrapper.loss_scaler.get_scale()
    before = [b.clone() for b in model.buffers()]
    train(model, wrapper, [5], broken)
    assert (wrapper.loss_scaler.get_scale() < scale) == (kind != 'static')
    assert all(map(torch.equal, before, model.buffers()))
    train(model, wrapper, range(6, 9))
    assert model.net[1].num_batches_tracked == before[2] + 3
    assert not messages()  # a scaler finds its scale by skipping
    assert 'step' not in vars(wrapper.optimizer)


@pytest.mark.parametrize('kind', SCALERS)
def test_a_loss_scaler_that_skips_everything_stops_with_the_remedy(kind):
    model, wrapper = skipping_scaler(kind)
    for _ in range(2):  # a step in between begins a new row
        train(model, wrapper, range(3), lambda i: broken(i, range(3)))
        train(model, wrapper, range(3))
    with pytest.raises(RuntimeError, match='skipped 4 steps in a row.*NaN'):
        train(model, wrapper, range(9), lambda i: broken(i, range(9)))
    assert wrapper.skipped_in_a_row == 4


def fail(*_, **__):
    raise MemoryError


class Places:
    """Makes a step raise in one place, once."""

    @staticmethod
    def first_forward(model, wrapper, patch):
        patch.setattr(model.loss_module, 'forward', fail)

    @staticmethod
    def first_backward(model, wrapper, patch):
        patch.setattr(wrapper.base, 'backward', lambda loss, **_: (
            type(wrapper.base).backward(wrapper.base, loss), fail()))

    @staticmethod
    def decision(model, wrapper, patch):
        patch.setattr(wrapper, 'needs_second_pass', fail)

    @staticmethod
    def direction(model, wrapper, patch):
        patch.setattr(wrapper, 'set_ascent_direction', fail)

    @staticmethod
    def perturbation(model, wrapper, patch):
        """After the first layer has moved."""
        moved = wrapper.perturbation._moved
        add = torch.add
        patch.setattr(torch, 'add', lambda p, *args, **options: (
            fail() if len(wrapper.perturbation._moved) == 2 else
            add(p, *args, **options)))
        assert not moved

    @staticmethod
    def second_forward(model, wrapper, patch):
        forward = model.loss_module.forward
        patch.setattr(
            model.loss_module, 'forward', lambda *args: fail() if
            wrapper.perturbation._moved else forward(*args))


PLACES = [name for name in vars(Places) if not name.startswith('_')]


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('options', [
    dict(type='SAM', rho=0.3), METHODS['AUSAM'],
    dict(METHODS['AUSAM'], alpha=(0.25, 0.75)), dict(type='KSAM')], ids=str)
def test_a_micro_batch_that_raised_can_be_repeated(options, place):
    """Then the training ends as if nothing had been."""
    trained = []
    for fails in (False, True):
        model = build()
        wrapper = wrap(model, accumulative_counts=3, **options)
        wrapper.initialize_count_status(model, 0, 9)
        train(model, wrapper, range(4))
        if fails:
            hooks = [len(m._forward_hooks) for m in model.modules()]
            with pytest.MonkeyPatch.context() as patch:
                getattr(Places, place)(model, wrapper, patch)
                with pytest.raises(MemoryError):
                    train(model, wrapper, [4])
            assert hooks == [len(m._forward_hooks) for m in model.modules()]
        train(model, wrapper, range(4, 9))
        assert wrapper.num_updates == 3
        trained.append(model)
    assert difference(*trained) == 0


def test_an_exception_before_a_pass_at_moved_weights_leaves_the_gradients():
    """MSAM's one pass."""
    model = build()
    wrapper = wrap(model, accumulative_counts=2, type='MSAM')
    wrapper.initialize_count_status(model, 0, 8)
    train(model, wrapper, range(3))
    before = [p.grad.clone() for p in model.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        Places.perturbation(model, wrapper, patch)
        with pytest.raises(MemoryError):
            train(model, wrapper, [3])
    assert all(torch.equal(p.grad, grad)
               for p, grad in zip(model.parameters(), before))


class Draws(ToyModel):
    """Draws from all generators that are not torch's."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.draw(random.random(), np.random.rand())
        return super().forward(inputs, data_samples, mode)


@pytest.mark.parametrize('match_rng', [True, False])
def test_python_and_numpy_draw_the_same_in_both_passes(match_rng):
    model = Draws().double()
    drawn = []
    model.draw = lambda *numbers: drawn.append(numbers)
    wrapper = wrap(model, match_rng=match_rng, **METHODS['SAM'])
    train(model, wrapper, range(3))
    first, second = drawn[::2], drawn[1::2]
    assert (first == second) == match_rng
    assert len(set(first)) == 3


def test_what_a_method_draws_between_the_passes_is_not_repeated():
    model = build()
    wrapper = wrap(model, **METHODS['SAM'])
    drawn = []
    wrapper.set_ascent_direction = lambda step: drawn.append(
        float(torch.rand(())))
    train(model, wrapper, range(3))
    assert len(set(drawn)) == 3


class Pooled(ToyModel):
    """Images, or sequences, whose BatchNorm comes after a pooling."""

    def __init__(self, norm, size=1, dimensions=2):
        super().__init__()
        pool = getattr(nn, f'AdaptiveAvgPool{dimensions}d')(size)
        self.net = nn.Sequential(
            nn.Unflatten(1, (2, 3) + (1, ) * (dimensions - 1)), pool, norm,
            nn.Flatten(), nn.Linear(2 * size**dimensions, 3))


def batch_norm_1d():
    return build(norm=True)


LONE = {
    'BatchNorm1d': batch_norm_1d,
    'BatchNorm1d on sequences': lambda: Pooled(
        nn.BatchNorm1d(2), dimensions=1),
    'BatchNorm2d': lambda: Pooled(nn.BatchNorm2d(2)),
    'BatchNorm3d': lambda: Pooled(nn.BatchNorm3d(2), dimensions=3),
    'SyncBatchNorm': lambda: Pooled(nn.SyncBatchNorm(2)),
    'without statistics': lambda: Pooled(
        nn.BatchNorm2d(2, track_running_stats=False)),
}


def samples_seen(model, size, wrapper, steps=range(3)):
    """How many samples each pass of some small batches sees in training."""
    seen = []
    layer = next(module for module in model.net.modules()
                 if isinstance(module, (nn.Linear, nn.Conv2d)))
    handle = model.net.register_forward_hook(
        lambda module, args, output: seen.append(len(output))
        if layer.training else None)
    train(model, wrapper, steps, lambda i: batch(i, size=size))
    handle.remove()
    return seen


@pytest.mark.parametrize('size', [2, 3, 4])
@pytest.mark.parametrize('options', [
    METHODS['AUSAM'], dict(METHODS['AUSAM'], alpha=(0.25, 0.75)),
    dict(type='KSAM', k=1), dict(type='ESAM', gamma=0.3)], ids=str)
@pytest.mark.parametrize('model', LONE)
def test_batchnorm_gets_two_samples_of_an_incomplete_batch(
        model, options, size):
    torch.manual_seed(0)
    model = LONE[model]().double().train()
    seen = samples_seen(model, size, wrap(model, **options))
    assert min(seen) == 2


def test_a_batch_of_one_sample_is_the_base_optimizers_business():
    model = build(norm=True)
    wrapper = wrap(model, **METHODS['AUSAM'])
    train(model, wrapper, range(2))
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        train(model, wrapper, [2], lambda i: batch(i, size=1))


def frozen_norm():
    model = Pooled(nn.BatchNorm2d(2))
    model.net[2].eval()
    return model


@pytest.mark.parametrize('make', [
    lambda: Pooled(nn.BatchNorm2d(2), size=2),
    lambda: Pooled(nn.BatchNorm1d(2), size=2, dimensions=1),
    lambda: Pooled(nn.InstanceNorm2d(2, track_running_stats=True), size=2),
    lambda: Pooled(nn.GroupNorm(1, 2)), frozen_norm],
    ids=['maps', 'sequences', 'InstanceNorm', 'GroupNorm', 'frozen'])
@pytest.mark.parametrize('options', [
    METHODS['AUSAM'], dict(type='KSAM', k=1), dict(type='ESAM', gamma=0.3)],
    ids=str)
def test_layers_that_can_normalize_one_sample_get_one(make, options):
    torch.manual_seed(0)
    model = make().double()
    wrapper = wrap(model, **options)
    samples_seen(model, 3, wrapper, steps=[0])
    assert min(samples_seen(model, 3, wrapper)) == 1


@pytest.mark.parametrize('size,fewest', [(1, 2), (2, 1)])
def test_what_batchnorm_needs_is_known_after_a_resume(size, fewest):
    """From the first step on."""

    def make():
        torch.manual_seed(0)
        model = Pooled(nn.BatchNorm2d(2), size).double()
        return model, wrap(model, **METHODS['AUSAM'])

    model, wrapper = make()
    samples_seen(model, 3, wrapper)
    resumed, other = make()
    other.load_state_dict(wrapper.state_dict())
    assert samples_seen(resumed, 2, other, steps=[3]) == [fewest] * 2


def test_without_batchnorm_one_sample_is_enough():
    model = build()
    wrapper = wrap(model, **METHODS['AUSAM'])
    train(model, wrapper, range(2), lambda i: batch(i, size=2))
    assert wrapper.samples_backpropagated == 4 + 2


def resumed_rho(states, rho, **options):
    wrapper = wrap(build(), **dict(METHODS['SAM'], rho=rho), **options)
    wrapper.load_state_dict(states)
    return wrapper.param_groups[0]['rho']


def test_a_resumed_rho_that_differs_from_the_configs_is_said(messages):
    states = wrap(build(), **dict(METHODS['SAM'], rho=0.03)).state_dict()
    assert resumed_rho(states, 0.5) == 0.03
    assert messages() == [
        'The checkpoint resumes rho=0.03, and the config has rho=0.5: the '
        "checkpoint holds. To train with the config's, set resume=False and "
        'load_from.']


def test_the_rho_of_a_method_before_the_base_optimizer_is_not_resumed():
    """AUSAM, then OptimWrapper, then AUSAM: the config's rho holds."""
    states = wrap(build(), **dict(METHODS['SAM'], rho=0.03)).state_dict()
    base = wrap(build(), type='OptimWrapper')
    base.load_state_dict(states)
    assert resumed_rho(base.state_dict(), 0.5) == 0.5


def test_a_scheduled_rho_is_resumed_without_a_word(messages):
    wrapper = wrap(build(), **METHODS['SAM'])
    wrapper.param_groups[0].update(initial_rho=0.3, rho=0.1)
    assert resumed_rho(wrapper.state_dict(), 0.3) == 0.1
    assert not messages()


def test_every_batchnorm_statistic_is_taken_back():
    """InstanceNorm's, and those of classes that only look like one, too."""

    class Custom(nn.Module):

        def __init__(self):
            super().__init__()
            self.momentum = 0.1
            self.register_buffer('running_mean', torch.zeros(16).double())

        def forward(self, x):
            if self.training:
                self.running_mean += self.momentum * x.detach().mean(0)
            return x

    model = build()
    model.net.insert(1, Custom())
    wrapper = wrap(model, **METHODS['SAM'])
    train(model, wrapper, range(2))
    before = model.net[1].running_mean.clone()
    train(model, wrapper, [5], broken)
    assert wrapper.skipped_steps == 1
    assert torch.equal(model.net[1].running_mean, before)
