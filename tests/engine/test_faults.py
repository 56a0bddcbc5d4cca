"""What goes wrong in a step is noticed, and leaves everything else alone."""

import logging
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

import ausam_mm

from ..toy import ToyModel, batch, build, wrap

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


class Fails(ToyModel):
    fails = False

    def forward(self, inputs, data_samples=None, mode='tensor'):
        losses = super().forward(inputs, data_samples, mode)

        def fail(grad):
            raise MemoryError

        if self.fails:
            losses['loss'].register_hook(fail)
        return losses


def test_what_was_accumulated_survives_an_exception_in_the_first_backward():
    torch.manual_seed(0)
    model = Fails().double()
    wrapper = wrap(model, accumulative_counts=2, **METHODS['SAM'])
    wrapper.initialize_count_status(model, 0, 8)
    train(model, wrapper, range(1))
    before = [p.grad.clone() for p in model.parameters()]
    model.fails = True
    with pytest.raises(MemoryError):
        train(model, wrapper, range(1, 2))
    assert all(torch.equal(p.grad, g) for p, g in zip(
        model.parameters(), before))


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


@pytest.mark.parametrize('size', [2, 3, 4])
@pytest.mark.parametrize('options', [
    METHODS['AUSAM'], dict(METHODS['AUSAM'], alpha=(0.25, 0.75)),
    dict(type='KSAM', k=1), dict(type='ESAM', gamma=0.3)], ids=str)
def test_batchnorm_gets_two_samples_of_an_incomplete_batch(options, size):
    model = build(norm=True)
    wrapper = wrap(model, **options)
    seen = []
    model.net[1].register_forward_hook(
        lambda module, args, output: seen.append(len(output))
        if module.training else None)
    train(model, wrapper, range(3), lambda i: batch(i, size=size))
    assert min(seen) == 2


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


ENGINE = str(Path(ausam_mm.engine.__file__).parent)


class Interrupt:
    """Raises KeyboardInterrupt at the n-th line that the engine runs."""

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        sys.settrace(self.trace)

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, argument):
        return self.line if frame.f_code.co_filename.startswith(ENGINE) \
            else None

    def line(self, frame, event, argument):
        if event == 'line':
            self.number -= 1
            if self.number == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self.line


def everything_of(model):
    return ([p.detach().clone() for p in model.parameters()],
            [b.track_running_stats for b in model.modules()
             if isinstance(b, nn.BatchNorm1d)],
            [len(m._forward_hooks) + len(m._forward_pre_hooks)
             for m in model.modules()])


@pytest.mark.parametrize('method', METHODS)
def test_an_interrupt_at_any_line_is_repaired_by_the_next_step(method):
    model = build(norm=True)
    wrapper = wrap(model, lr=0., weight_decay=0., **METHODS[method])
    train(model, wrapper, range(2))
    weights, flags, hooks = everything_of(model)
    number, ended = 0, False
    while not ended:
        number += 1
        with Interrupt(number):
            try:
                train(model, wrapper, [2])
                ended = True
            except KeyboardInterrupt:
                pass
        # The next step begins with the repair.
        with wrapper.optim_context(model):
            after, flags_in_step, _ = everything_of(model)
            model(**model.data_preprocessor(batch(3), True), mode='loss')
        wrapper._step = None
        assert all(map(torch.equal, weights, after)), number
        assert flags_in_step == flags, number
        assert everything_of(model)[2] == hooks, number
    assert number > 300
