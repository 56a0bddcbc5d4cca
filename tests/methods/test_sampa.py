"""SAMPa against a loop in torch in the order of the authors' script.

The loop keeps the last batch, as theirs does, where the method repeats the
pass before the batch goes. Resume, loss scales and FSDP are in
tests/engine/test_methods.py.
"""

import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel

from ..processes import launch
from ..toy import ToyModel, batch, build, difference, sample_losses, wrap

RHO = 0.3
STEPS = 12


def norm(vectors):
    return torch.cat([v.flatten() for v in vectors]).norm()


def joined(*parts):
    return dict(
        inputs=torch.cat([part['inputs'] for part in parts]),
        data_samples=[s for part in parts for s in part['data_samples']])


class Reference:
    """x, y and the gradient there; every pass is on a model of its own."""

    def __init__(self, optimizer, rho=RHO, lmbda=0.2, max_norm=None):
        self.model = build()
        self.optimizer = optimizer(self.model.parameters())
        self.rho, self.lmbda, self.max_norm = rho, lmbda, max_norm
        self.last, self.g = None, None

    def gradient(self, data, weights=None):
        model = copy.deepcopy(self.model)
        params = list(model.parameters())
        for p, w in zip(params, weights or []):
            p.data.copy_(w)
        return torch.autograd.grad(sample_losses(model, data).mean(), params)

    def step(self, optimizer, g):
        params = optimizer.param_groups[0]['params']
        for p, part in zip(params, g):
            p.grad = part.clone()
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, self.max_norm)
        optimizer.step()
        return [p.detach() for p in params]

    def look_ahead(self):
        """Where SGD, a copy of the optimizer if it is that, steps with g."""
        model, optimizer = copy.deepcopy((self.model, self.optimizer))
        if not isinstance(optimizer, torch.optim.SGD):
            optimizer = torch.optim.SGD(
                model.parameters(), optimizer.param_groups[0]['lr'])
        return self.step(optimizer, self.g)

    def train_step(self, data):
        if self.g is None:
            h = self.g = self.gradient(data)
        else:
            length = norm(self.g)
            h = self.gradient(self.last, [
                p.detach() + self.rho * g / length
                for p, g in zip(self.model.parameters(), self.g)])
            self.g = self.gradient(data, self.look_ahead())
        self.step(self.optimizer, [
            (1 - self.lmbda) * a + self.lmbda * b for a, b in zip(h, self.g)])
        self.last = data


def sgd(**options):
    return lambda params: torch.optim.SGD(
        params, **{**dict(lr=0.05, momentum=0.9, weight_decay=1e-3),
                   **options})


def trained(optimizer=None, data=batch, steps=STEPS, repeat=1, outer=None,
            model=None, **options):
    model = model or build()
    wrapper = wrap(model, **{'type': 'SAMPa', 'rho': RHO, **options})
    if optimizer is not None:
        wrapper.optimizer = optimizer(model.parameters())
        wrapper.param_groups[0]['rho'] = RHO
    wrapper.initialize_count_status(model, 0, steps * repeat)
    for i in range(steps * repeat):
        (outer or model).train_step(data(i), wrapper)
    return model, wrapper


def weights_of(wrapper):
    return [p.detach().clone()
            for group in wrapper.param_groups for p in group['params']]


@pytest.mark.parametrize('lmbda', [0., 0.2, 1.])
@pytest.mark.parametrize('max_norm', [None, 0.5])
@pytest.mark.parametrize('optimizer', [
    sgd(), sgd(momentum=0.), sgd(nesterov=True), sgd(dampening=0.5),
    lambda params: torch.optim.AdamW(params, lr=0.02)],
    ids=['momentum', 'plain', 'nesterov', 'dampening', 'AdamW'])
def test_it_matches_the_authors_order(optimizer, max_norm, lmbda):
    clip = dict(clip_grad=dict(max_norm=max_norm)) if max_norm else {}
    model, wrapper = trained(optimizer, lmbda=lmbda, **clip)
    r = Reference(optimizer, lmbda=lmbda, max_norm=max_norm)
    lengths = []
    for i in range(STEPS):
        r.train_step(batch(i))
        lengths.append(norm(r.g))
    if max_norm:
        assert min(lengths) > max_norm
    assert difference(model, r.model) < 1e-12
    assert difference(model, build()) > 1e-2
    assert wrapper.samples_backpropagated == 2 * 16 * STEPS


def test_the_learning_rate_of_y_is_that_of_its_step():
    model = build()
    wrapper = wrap(model, type='SAMPa', rho=RHO)
    r = Reference(sgd())
    for i in range(STEPS):
        for optimizer in (wrapper.optimizer, r.optimizer):
            optimizer.param_groups[0]['lr'] = 0.1 / (1 + i)
        model.train_step(batch(i), wrapper)
        r.train_step(batch(i))
    assert difference(model, r.model) < 1e-12


@pytest.mark.parametrize('max_norm', [None, 0.5])
def test_micro_batches_are_a_step_on_all_of_them(max_norm):
    clip = dict(clip_grad=dict(max_norm=max_norm)) if max_norm else {}
    model, wrapper = trained(repeat=3, accumulative_counts=3, **clip)
    r = Reference(sgd(), max_norm=max_norm)
    for i in range(STEPS):
        r.train_step(joined(*(batch(3 * i + j) for j in range(3))))
    assert difference(model, r.model) < 1e-12
    assert wrapper.num_updates == STEPS
    assert wrapper.samples_backpropagated == 2 * 3 * 16 * STEPS


def of_rank(step):
    return batch(1000 * dist.get_rank() + step)


def in_processes(accumulation):
    model = build()
    outer = MMDistributedDataParallel(model)
    trained(model=model, outer=outer, data=of_rank, repeat=accumulation,
            accumulative_counts=accumulation, clip_grad=dict(max_norm=0.5))
    return model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize('accumulation', [1, 2])
def test_two_processes_are_a_step_on_both_batches(accumulation):
    states = launch(in_processes, 2, accumulation)
    r = Reference(sgd(), max_norm=0.5)
    for i in range(STEPS):
        r.train_step(joined(*(
            batch(1000 * rank + i * accumulation + j)
            for rank in range(2) for j in range(accumulation))))
    for name, value in r.model.state_dict().items():
        assert torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(states[0][name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize('accumulation', [1, 3])
def test_a_resumed_training_is_the_same_bit_for_bit(accumulation, tmp_path):
    options = dict(
        repeat=accumulation, accumulative_counts=accumulation,
        clip_grad=dict(max_norm=0.5), base=dict(
            type='CPUAmpOptimWrapper', dtype='bfloat16',
            loss_scale=dict(init_scale=2.**10, growth_interval=3)))

    def fresh():
        return build(norm=True).float()

    whole, _ = trained(model=fresh(), **options)
    first, wrapper = trained(model=fresh(), steps=5, **options)
    torch.save([first.state_dict(), wrapper.state_dict()],
               tmp_path / 'state.pth')
    states = torch.load(tmp_path / 'state.pth', weights_only=True)
    resumed = fresh()
    wrapper = trained(model=fresh(), steps=0, **options)[1]
    del options['repeat']
    wrapper = wrap(resumed, type='SAMPa', rho=RHO, **options)
    resumed.load_state_dict(states[0])
    wrapper.load_state_dict(states[1])
    done, total = 5 * accumulation, STEPS * accumulation
    wrapper.initialize_count_status(resumed, done, total)
    for i in range(done, total):
        resumed.train_step(batch(i), wrapper)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_batch_that_is_not_finite_leaves_no_trace():
    for bad in (0, 1, 5):

        def data(i, bad=bad):
            if i == bad:
                return dict(batch(99), inputs=torch.full(
                    (16, 6), torch.inf, dtype=torch.double))
            return batch(i - (i > bad))

        model, wrapper = trained(data=data, steps=STEPS + 1)
        assert wrapper.skipped_steps == 1
        assert difference(model, trained()[0]) == 0


def test_an_overflow_of_h_costs_the_next_step(monkeypatch):
    model = build()
    wrapper = wrap(model, type='SAMPa', rho=RHO, base=dict(
        type='CPUAmpOptimWrapper', dtype='bfloat16', loss_scale=dict(
            init_scale=2.**10)))
    before = []
    for i in range(4):
        before.append(copy.deepcopy(model))
        model.train_step(batch(i), wrapper)
        if i == 1:
            wrapper.h.of(list(model.parameters()))[0][0] = torch.inf
    assert difference(before[2], before[3]) == 0
    assert difference(before[3], model) > 1e-4
    assert wrapper.base.loss_scaler.get_scale() == 2.**9
    assert all(h.isfinite().all()
               for h in wrapper.h.of(list(model.parameters())))


class Counting(ToyModel):
    """Counts its passes in a buffer, which is part of its state."""

    def __init__(self):
        super().__init__(norm=True, dropout=0.5)
        self.register_buffer('passes', torch.zeros((), dtype=torch.long))

    def forward(self, *args, **kwargs):
        self.passes += 1
        return super().forward(*args, **kwargs)


def watch(model):
    """The first weights in each of a model's passes, which no step rewinds."""
    weights = []
    model.register_forward_pre_hook(lambda *_: weights.append(
        model.net[0].weight.detach().clone()))
    return weights


@pytest.mark.parametrize('accumulation', [1, 2])
def test_a_pass_that_is_repeated_leaves_buffers_as_the_first(accumulation):
    model = Counting().double()
    weights = watch(model)
    trained(model=model, repeat=accumulation,
            accumulative_counts=accumulation)
    assert len(weights) == 2 * STEPS * accumulation
    assert model.passes == STEPS * accumulation
    assert model.net[1].num_batches_tracked == STEPS * accumulation


def test_both_passes_of_a_batch_have_the_same_dropout():
    torch.manual_seed(0)
    model = Counting().double()
    _, wrapper = trained(model=model, rho=0., optimizer=sgd(lr=0.), steps=3)
    params = list(model.parameters())
    wrapper.param_groups[0]['rho'] = 0.
    model.train_step(batch(3), wrapper)
    for g, h in zip(wrapper.g.of(params), wrapper.h.of(params)):
        torch.testing.assert_close(g, h, rtol=0, atol=1e-12)


def test_frozen_parameters_stay_in_both_passes():
    model = Counting().double()
    model.net[0].weight.requires_grad_(False)
    before = model.net[0].weight.clone()
    weights = watch(model)
    trained(model=model, steps=4)
    assert len(weights) == 8
    assert all(torch.equal(weight, before) for weight in weights)


@pytest.mark.parametrize('which', ['first', 'second'])
@pytest.mark.parametrize('accumulation', [1, 2])
def test_an_interrupted_step_leaves_the_weights_at_x(which, accumulation):
    model = build()
    wrapper = wrap(model, type='SAMPa', rho=RHO,
                   accumulative_counts=accumulation)
    wrapper.initialize_count_status(model, 0, 8 * accumulation)
    for i in range(3 * accumulation):
        model.train_step(batch(i), wrapper)
    x = weights_of(wrapper)
    passes = []

    def fail(*_):
        passes.append(1)
        if len(passes) == accumulation + (which == 'second'):
            raise RuntimeError('broken')

    hook = model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match='broken'):
        for i in range(accumulation):
            model.train_step(batch(i), wrapper)
    now = weights_of(wrapper)
    if which == 'first':
        assert all(torch.equal(p, q) for p, q in zip(now, x))
    else:  # the optimizer has stepped, and momentum tells how far
        for p, q in zip(now, model.parameters()):
            buffer = wrapper.optimizer.state[q]['momentum_buffer']
            torch.testing.assert_close(p, x.pop(0) - 0.05 * buffer)
    assert not wrapper.perturbation._moved
    hook.remove()
    for i in range(2 * accumulation):
        model.train_step(batch(i), wrapper)
    assert len(wrapper.repeated_later) < accumulation


class Contrast(ToyModel):
    """Its loss compares the samples of a batch: it is not separable."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.net(inputs)
        return dict(loss=torch.logsumexp(out @ out.T, 1).mean())


def test_a_loss_that_is_not_separable_trains():
    torch.manual_seed(0)
    model = Contrast().double()
    before = copy.deepcopy(model)
    _, wrapper = trained(model=model)
    assert wrapper.num_updates == STEPS
    assert difference(model, before) > 1e-3


class Late(ToyModel):
    """Changes its inputs in place, from some step on."""
    is_late = False

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if self.is_late:
            inputs.mul_(0.5)
        return super().forward(inputs, data_samples, mode)


@pytest.mark.parametrize('accumulation', [1, 2])
def test_a_first_pass_that_cannot_be_repeated_keeps_the_last_h(
        accumulation):
    model = Late().double()
    wrapper = wrap(model, type='SAMPa', rho=RHO,
                   accumulative_counts=accumulation)
    wrapper.initialize_count_status(model, 0, 8 * accumulation)
    kept = []
    for i in range(8 * accumulation):
        model.is_late = i >= 5 * accumulation
        model.train_step(batch(i), wrapper)
        if wrapper.starts_update():
            kept.append([h.clone() for h in wrapper.h.of(
                list(model.parameters()))])
    same = [all(torch.equal(a, b) for a, b in zip(one, other))
            for one, other in zip(kept, kept[1:])]
    assert same == [i == 4 for i in range(7)]
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_checkpoint_of_another_method_starts_with_the_base_s_step():
    sam, other = trained(type='SAM')
    model = build()
    model.load_state_dict(sam.state_dict())
    wrapper = wrap(model, type='SAMPa', rho=RHO)
    wrapper.load_state_dict(copy.deepcopy(other.state_dict()))
    plain = build()
    plain.load_state_dict(sam.state_dict())
    base = wrap(plain, type='OptimWrapper')
    state = other.state_dict()
    state.pop('ausam_mm')
    base.load_state_dict(state)
    for i, equal in ((0, True), (1, False)):
        model.train_step(batch(i), wrapper)
        plain.train_step(batch(i), base)
        assert (difference(model, plain) < 1e-12) == equal
