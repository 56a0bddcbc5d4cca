"""A forward pass runs twice; what it touches must not notice.

The references run one pass a step, as MMEngine's OptimWrapper does.
"""

import copy
from collections import deque

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

from ausam_mm.engine import step as engine

from ..toy import ToyModel, batch, difference, reference_step, wrap

METHODS = dict(
    SAM=dict(type='SAM', rho=0.3),
    pair=dict(type='AUSAM', rho=0.3, alpha=(0.25, 0.75), warmup_iters=1,
              ramp_iters=0, seed=0),
    KSAM=dict(type='KSAM', rho=0.3, k=8),
    ESAM=dict(type='ESAM', rho=0.3, gamma=0.5))


class Queue(ToyModel):
    """Its loss depends on the features of batches before."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer('queue', torch.zeros(4, 3))
        self.register_buffer('place', torch.zeros((), dtype=torch.long))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        target = torch.stack([sample.gt for sample in data_samples])
        pred = self.net(inputs)
        loss = self.loss_module(pred + self.queue.clone().mean(0), target)
        with torch.no_grad():
            self.queue[self.place % 4] = inputs[:, :3].mean(0)
            self.place += 1
        return dict(loss=loss)


class Attributes(ToyModel):
    """Counts and remembers in Python."""

    def __init__(self, **options):
        super().__init__(**options)
        self.count, self.last, self.means = 0, None, deque(maxlen=3)
        self.names, self.plain = {}, torch.zeros(3).double()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        target = torch.stack([sample.gt for sample in data_samples])
        pred = self.net(inputs) * (1 + self.count + len(self.means)) \
            + self.plain.clone()
        self.count += 1
        self.last = inputs.mean()
        self.means.append(float(self.last))
        self.names[self.count] = self.last
        self.plain += 1
        return dict(loss=self.loss_module(pred, target))

    def state(self):
        return [torch.tensor(self.count), self.last, torch.tensor(self.means),
                torch.tensor(list(self.names)), self.plain]


class Teacher(ToyModel):
    """A mean teacher, as mmengine's averaged models make it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.teacher = ExponentialMovingAverage(self.net, momentum=0.4)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        with torch.no_grad():
            self.teacher.update_parameters(self.net)
            target = self.teacher(inputs)
        pred, labels = self.net(inputs), torch.stack(
            [sample.gt for sample in data_samples])
        return dict(loss=self.loss_module(pred, labels + target))


class InPlace(ToyModel):
    """Changes its inputs and its data samples."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs.mul_(2.).sub_(.3)
        for sample in data_samples:
            sample.gt = sample.gt + 1
            sample.gt.mul_(1.5)
        target = torch.stack([data_samples.pop() .gt
                              for _ in range(len(data_samples))][::-1])
        return dict(loss=self.loss_module(self.net(inputs), target))


def make(kind, **options):
    torch.manual_seed(0)
    return kind(**options).double().train()


def sam_in_torch(model, data, rho=0.3, lr=0.05):
    """A SAM step whose passes start from copies of everything."""
    params = [p for p in model.parameters() if p.requires_grad]
    other = copy.deepcopy(model)
    loss = model(**copy.deepcopy(data), mode='loss')['loss']
    grads = torch.autograd.grad(loss, params)
    norm = torch.cat([grad.flatten() for grad in grads]).norm()
    with torch.no_grad():
        for p, grad in zip((p for p in other.parameters()
                            if p.requires_grad), grads):
            p += rho * grad / norm
    loss = other(**copy.deepcopy(data), mode='loss')['loss']
    grads = torch.autograd.grad(
        loss, [p for p in other.parameters() if p.requires_grad])
    with torch.no_grad():
        for p, grad in zip(params, grads):
            p -= lr * grad


@pytest.mark.parametrize('kind', [Queue, Attributes, Teacher, InPlace])
def test_sam_is_that_of_passes_that_start_from_copies(kind):
    model, reference = make(kind), make(kind)
    wrapper = wrap(model, momentum=0., weight_decay=0., **METHODS['SAM'])
    for step in range(5):
        model.train_step(batch(step), wrapper)
        sam_in_torch(reference, batch(step))
    assert difference(model, reference) < 1e-9
    for (name, buffer), other in zip(model.named_buffers(),
                                     reference.buffers()):
        torch.testing.assert_close(buffer, other, msg=name)
    if kind is Attributes:
        torch.testing.assert_close(model.state(), reference.state())


@pytest.mark.parametrize('method', ['pair', 'KSAM', 'ESAM'])
def test_samples_have_their_losses_though_the_model_changes_its_inputs(method):
    model = make(InPlace)
    alone = copy.deepcopy(model)
    wrapper = wrap(model, lr=0., weight_decay=0., **METHODS[method])
    steps, observe = [], wrapper.observe
    wrapper.observe = lambda step: (steps.append(step), observe(step))
    for i in range(4):
        model.train_step(batch(i), wrapper)
        data, step = batch(i), steps[-1]
        expected = [
            alone(data['inputs'][k:k + 1].clone(), [data['data_samples'][k]],
                  'loss')['loss'].detach() for k in step.selection.ascent]
        torch.testing.assert_close(step.first.losses, torch.stack(expected))
    assert wrapper.losses_verified


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('kind', [Queue, Attributes, Teacher])
def test_a_step_leaves_the_state_as_one_pass_does(kind, method):
    """At w, also where a scoring pass or a look at the losses comes first."""
    model, once = make(kind), make(kind)
    wrapper = wrap(model, lr=0., weight_decay=0., **METHODS[method])
    steps, observe = [], wrapper.observe
    wrapper.observe = lambda step: (steps.append(step), observe(step))
    for step in range(4):
        data = batch(step, first_index=16 * step)
        model.train_step(data, wrapper)
        ascent = steps[-1].selection.ascent
        once(data['inputs'][ascent],
             [data['data_samples'][i] for i in ascent], 'loss')
    for (name, buffer), other in zip(model.named_buffers(), once.buffers()):
        torch.testing.assert_close(buffer, other, msg=name)
    if kind is Attributes:
        torch.testing.assert_close(model.state(), once.state())
    if kind is Teacher:
        assert difference(model, once) == 0
        assert int(model.teacher.steps) == 4


def test_a_teacher_that_moves_at_intervals_moves_once():
    """MMEngine changes its weights where no version counter sees it."""
    def build():
        model = make(Teacher)
        model.teacher.interval = 4
        model.teacher.steps += 1  # as after a resume
        return model

    model, once = build(), build()
    wrapper = wrap(model, momentum=0., weight_decay=0., **METHODS['SAM'])
    for step in range(9):
        model.train_step(batch(step), wrapper)
        sam_in_torch(once, batch(step))
    for p, q in zip(model.teacher.parameters(), once.teacher.parameters()):
        torch.testing.assert_close(p, q)


class Noisy(ToyModel):
    """Draws random numbers also in eval mode, and makes nothing of them."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return super().forward(inputs + 0 * torch.rand(1).double(),
                               data_samples, mode)


@pytest.mark.parametrize('kind', [ToyModel, Noisy])
def test_a_look_at_the_losses_draws_nothing(kind):
    """AUSAM with everything selected leaves the generators as SAM does."""
    states = []
    for method in (METHODS['SAM'], dict(METHODS['pair'], alpha=1.)):
        model = make(kind, dropout=0.3)
        wrapper = wrap(model, **method)
        torch.manual_seed(1)
        for step in range(3):
            model.train_step(batch(step), wrapper)
        states.append([torch.get_rng_state(), *model.parameters()])
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.fixture
def said(monkeypatch):
    """What a step logs."""
    messages = []
    monkeypatch.setattr(engine, 'print_log',
                        lambda text, **_: messages.append(text))
    return messages


class Late(Queue):
    """Begins to fill its queue in its fifth pass."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.place += 1
        target = torch.stack([sample.gt for sample in data_samples])
        loss = self.loss_module(
            self.net(inputs) + self.queue.clone().mean(0), target)
        if self.place >= 5:
            with torch.no_grad():
                self.queue[self.place % 4] = inputs[:, :3].mean(0)
        return dict(loss=loss)


def test_a_state_that_moves_late_costs_one_step_its_second_pass(said):
    model, reference = make(Late), make(Late)
    wrapper = wrap(model, momentum=0., weight_decay=0., **METHODS['SAM'])
    for step in range(7):
        model.train_step(batch(step), wrapper)
        passes = wrapper.samples_backpropagated
        if step == 4:  # of the base optimizer
            params = list(reference.parameters())
            loss = reference(**batch(step), mode='loss')['loss']
            with torch.no_grad():
                for p, grad in zip(params, torch.autograd.grad(loss, params)):
                    p -= 0.05 * grad
        else:
            sam_in_torch(reference, batch(step))
    assert difference(model, reference) < 1e-12
    torch.testing.assert_close(model.queue, reference.queue)
    assert passes == (2 * 7 - 1) * 16
    assert 'queue for the first time' in said[0] and len(said) == 1


def test_inputs_that_change_late_cost_one_step_its_second_pass(said):

    class LateInPlace(ToyModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            if inputs.sum() > 1e3:
                inputs.mul_(0.5)
            return super().forward(inputs, data_samples, 'loss')

    model = make(LateInPlace)
    wrapper = wrap(model, **METHODS['SAM'])
    for step in range(6):
        data = batch(step)
        if step > 3:
            data['inputs'] += 100
        model.train_step(data, wrapper)
    assert wrapper.samples_backpropagated == (2 * 6 - 1) * 16
    assert len(said) == 1
    assert 'changed its inputs for the first time' in said[0]


def test_models_without_such_state_are_copied_nothing(monkeypatch):
    model = make(ToyModel, norm=True, dropout=0.3)
    wrapper = wrap(model, **METHODS['SAM'])
    for step in range(3):
        model.train_step(batch(step), wrapper)
    state = wrapper.forward_state
    assert not state.moving and not state.call_moves
    assert all(slot.content is None for slot in state._slots)
    assert not state._before._buffers


SETS = []  # a list of the module's own would be rewound


class Scale(nn.Module):
    """ActNorm's scale, which the first batch in training sets."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))
        self.register_buffer('is_set', torch.zeros((), dtype=torch.bool))

    def forward(self, x):
        if self.training and not self.is_set:
            with torch.no_grad():
                self.weight.copy_(1 / (x.std(0) + 1))
                self.is_set.fill_(True)
                SETS.append(self.weight.clone())
        return x * self.weight


class Scaled(ToyModel):

    def __init__(self, **options):
        super().__init__(**options)
        self.net = nn.Sequential(nn.Linear(6, 6), Scale(), self.net)


@pytest.mark.parametrize('method', ['SAM', 'pair'])
def test_a_scale_that_the_first_batch_sets_is_set_once_and_at_w(method):
    torch.manual_seed(0)
    model = Scaled().double().train()
    alone = copy.deepcopy(model)
    wrapper = wrap(model, lr=0., **METHODS[method])
    SETS.clear()
    for i in range(3):
        model.train_step(batch(i), wrapper)
    assert len(SETS) == 1 and model.net[1].is_set
    alone.net(batch(0)['inputs'])
    assert torch.equal(SETS[0], SETS[1])
    assert torch.equal(model.net[1].weight, SETS[1])


def test_spectral_norm_iterates_once_a_step():
    def spectral():
        model = make(ToyModel)
        model.net[0] = nn.utils.parametrizations.spectral_norm(model.net[0])
        return model

    torch.manual_seed(1)
    model = spectral()
    once = copy.deepcopy(model)
    wrapper = wrap(model, lr=0., weight_decay=0., **METHODS['SAM'])
    for step in range(3):
        model.train_step(batch(step), wrapper)
        once(**batch(step), mode='loss')
    for buffer, other in zip(model.buffers(), once.buffers()):
        torch.testing.assert_close(buffer, other)


def test_the_reference_of_plain_sam_is_the_same():
    """What the references above are, on a model that changes nothing."""
    model, reference = make(ToyModel), make(ToyModel)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05)
    for step in range(3):
        sam_in_torch(model, batch(step))
        reference_step(reference, optimizer, batch(step), 0.3)
    assert difference(model, reference) < 1e-12
