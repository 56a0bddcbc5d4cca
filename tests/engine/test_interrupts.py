"""An interrupt at any line of a step is repaired by the next step."""

import copy
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import ausam_mm

from ..toy import batch, build, wrap

AUSAM = dict(type='AUSAM', warmup_iters=1, ramp_iters=0, seed=0)
SCALED = dict(type='CPUAmpOptimWrapper', dtype='bfloat16')
CASES = {
    'SAM': dict(type='SAM'),
    'one pass': dict(type='MSAM'),
    'one pass and reuse': dict(type='LookSAM', k=3),
    'first gradient': dict(type='AESAM', c_start=9., c_end=9.),
    'AUSAM': AUSAM,
    'pair of ratios': dict(AUSAM, alpha=(0.25, 0.75)),
    'weighted': dict(AUSAM, sampling='systematic',
                     weighting='inverse_probability'),
    'scoring before the first pass': dict(type='KSAM'),
    'scoring before the second pass': dict(type='ESAM'),
    'gradients of samples': dict(AUSAM, scores='gradient_norm',
                                 accumulative_counts=2),
    'accumulation': dict(type='SAM', accumulative_counts=2),
    'accumulation and ratios': dict(AUSAM, accumulative_counts=2),
    'one pass, accumulation': dict(
        type='AESAM', c_start=9., c_end=9., accumulative_counts=2),
    'mixed precision': dict(AUSAM, base=SCALED),
    'mixed precision inside': dict(AUSAM, inside=True),
    'clipping': dict(type='SAM', clip_grad=dict(max_norm=1.)),
    'both gradients': dict(type='SplitSAM', seed=0, accumulative_counts=2),
}
# That of both gradients holds the first one before the second backward pass.
ONE_BACKWARD = ('one pass', 'one pass and reuse', 'first gradient',
                'one pass, accumulation', 'both gradients')
PACKAGE = str(Path(ausam_mm.__file__).parent)


class Interrupt:
    """Raises KeyboardInterrupt at the n-th line that the package runs.

    Of a line that runs often the first two times count.

    Attributes:
        where (str, optional): That line, once it was reached.
    """

    def __init__(self, number):
        self.where = None
        left, times = number, Counter()

        def on_call(frame, event, argument):
            ours = frame.f_code.co_filename.startswith(PACKAGE)
            return on_line if ours and self.where is None else None

        def on_line(frame, event, argument):
            nonlocal left
            if event == 'line' and self.where is None:
                line = frame.f_code, frame.f_lineno
                times[line] += 1
                left -= times[line] <= 2
            if left == 0 and self.where is None:
                self.where = f'{frame.f_code.co_filename}:{frame.f_lineno}'
                raise KeyboardInterrupt  # which ends the tracing, too
            return on_line

        self.trace = on_call

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)


def values_of(model):
    return [p.detach().clone() for p in model.parameters()]


def gradients_of(model):
    return [None if p.grad is None else p.grad.clone()
            for p in model.parameters()]


def modes_of(model):
    """What a step changes for a while, besides."""
    return [
        torch.is_grad_enabled(), num_autocasts(),
        *(module.training for module in model.modules()),
        *(getattr(module, 'track_running_stats', None)
          for module in model.modules()),
        *(p.requires_grad for p in model.parameters())]


def num_autocasts():
    """How many contexts of torch.autocast PyTorch counts."""
    number = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return number


def hooks_of(model):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks)
            for m in model.modules()]


def same(ones, others):
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a is b
               for a, b in zip(ones, others))


class Training:
    """A training in the middle of which the same step can be tried often."""

    def __init__(self, options, inside=False):
        self.model = model = build(norm=True)
        if inside:  # of the model's forward pass, as CPUAmpHook does it
            model.forward = torch.autocast(
                'cpu', torch.bfloat16)(model.forward)
        self.wrapper = wrapper = wrap(
            model, lr=0., weight_decay=0., **options)
        wrapper.initialize_count_status(model, 0, 8)
        for i in range(4 + ('accumulative_counts' in options)):
            self.train(i)
        self.saved = copy.deepcopy(wrapper.state_dict())
        self.counts = wrapper.inner_count, wrapper.micro_batch
        self.gradients = gradients_of(model)
        self.num_backwards = 0
        backward = wrapper.base.backward

        def counted(*args, **kwargs):
            self.num_backwards += 1
            backward(*args, **kwargs)

        wrapper.base.backward = counted

        # The method is asked after the repair and before anything else.
        self.found, uses_two_passes = None, wrapper.uses_two_passes

        def asked():
            self.found = self.look()
            return uses_two_passes()

        wrapper.uses_two_passes = asked

    def look(self):
        return dict(
            values=values_of(self.model), gradients=gradients_of(self.model),
            modes=modes_of(self.model), count=self.wrapper.inner_count)

    def train(self, i):
        self.model.train_step(batch(i), self.wrapper)

    def begin(self):
        """Goes back to where the step begins."""
        self.wrapper.load_state_dict(copy.deepcopy(self.saved))
        self.wrapper.initialize_count_status(self.model, self.counts[0], 8)
        self.wrapper.micro_batch = self.counts[1]
        for p, grad in zip(self.model.parameters(), self.gradients):
            p.grad = None if grad is None else grad.clone()
        self.num_backwards = 0


def interrupted_at(training, number):
    """Interrupts a step; returns where, or None where it has ended before."""
    training.begin()
    with Interrupt(number) as interrupt:
        try:
            training.train(5)
        except KeyboardInterrupt:
            assert interrupt.where is not None
    return interrupt.where


@pytest.mark.parametrize('case,every', [
    ('pair of ratios', 61), ('accumulation', 61),
    # With single samples a step takes long.
    *(pytest.param(case, 7 if case == 'gradients of samples' else 1,
                   marks=pytest.mark.slow) for case in CASES)])
def test_an_interrupt_at_any_line_is_repaired_by_the_next_step(case, every):
    options = dict(CASES[case])
    training = Training(options, options.pop('inside', False))
    model, wrapper = training.model, training.wrapper
    training.begin()
    before = training.look()
    hooks, clip = hooks_of(model), getattr(wrapper.base, 'clip_func', None)
    # The optimizer's gradient begins with the last of them.
    last_backward = 2 if case not in ONE_BACKWARD else 1
    number = 1
    while (where := interrupted_at(training, number)) is not None:
        untouched = training.num_backwards < last_backward
        training.train(6)
        found = training.found
        assert same(found['values'], before['values']), where
        assert found['modes'] == before['modes'], where
        assert hooks_of(model) == hooks, where
        assert getattr(wrapper.base, 'clip_func', None) is clip, where
        assert 'step' not in vars(wrapper.optimizer), where
        assert not torch.is_autocast_enabled('cpu'), where
        if untouched:
            assert same(found['gradients'], before['gradients']), where
            assert found['count'] == before['count'], where
        number += every
    assert number > 400  # lines
