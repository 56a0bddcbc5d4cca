"""Quantized models under SAM and AUSAM."""

import pytest
import torch
from torch import nn

from ausam_mm.engine import Perturbation
from ausam_mm.quantization import StepSize, guard_step_sizes

from ..toy import batch, sample_losses, wrap
from .models import toy

STEPS = 8


def steps_and_others(model):
    steps = [p for p in model.parameters() if isinstance(p, StepSize)]
    return steps, [p for p in model.parameters()
                   if not isinstance(p, StepSize)]


@pytest.mark.parametrize('at_hand', [True, False])
@pytest.mark.parametrize('adaptive', [True, False])
@pytest.mark.parametrize('perturbed', [True, False])
def test_step_sizes_are_perturbed_only_on_request(perturbed, adaptive, at_hand,
                                          monkeypatch):
    monkeypatch.setattr(Perturbation, '_is_at_hand', lambda *_: at_hand)
    model = toy(perturb_step_sizes=perturbed)
    data = batch()
    model.train_step(data, wrap(model, type='OptimWrapper'))
    wrapper = wrap(model, type='SAM', rho=1e-3, adaptive=adaptive, lr=0.)
    steps, others = steps_and_others(model)
    assert len(steps) == 4
    before = [p.detach().clone() for p in [*steps, *others]]
    seen, norms = [], []
    model.net.register_forward_hook(
        lambda *_: seen.append([p.detach().clone() for p in model.parameters()
                                ]) or None)
    perturb = wrapper.perturbation.perturb

    def spy(*args):
        grads = [(p, p.grad.clone()) for p in model.parameters()]
        norms.append(perturb(*args))
        scale = [(p.detach() * 0 + 1, g) for p, g in grads
                 if perturbed or not isinstance(p, StepSize)]
        norms.append(torch.cat([(a * g).flatten() for a, g in scale]).norm())
        return norms[0]

    wrapper.perturbation.perturb = spy
    model.train_step(data, wrapper)
    for (name, p), was, there in zip(model.named_parameters(), *seen):
        moved = not torch.equal(was, there)
        if name != 'net.0.bias':  # BatchNorm takes its gradient away
            assert moved == (perturbed or not isinstance(p, StepSize)), name
    for p, was in zip([*steps, *others], before):
        assert torch.equal(p, was)
    if not adaptive:
        torch.testing.assert_close(norms[0], norms[1])


@pytest.mark.parametrize('at_hand', [True, False])
def test_a_perturbation_never_makes_a_step_size_invalid(at_hand, monkeypatch):
    monkeypatch.setattr(Perturbation, '_is_at_hand', lambda *_: at_hand)
    model = toy(perturb_step_sizes=True)
    wrapper = wrap(model, type='SAM', rho=1e3, lr=1e-3)
    steps, _ = steps_and_others(model)
    seen = []
    model.net.register_forward_hook(
        lambda *_: seen.append(torch.stack([p.detach() for p in steps])) or
        None)
    for i in range(4):
        model.train_step(batch(i), wrapper)
    assert len(seen) == 8 and (torch.stack(seen) > 0).all()
    there = [b - a for a, b in zip(seen[::2], seen[1::2])]
    assert any((d == 0).any() for d in there)  # refused
    assert any((d > 0).any() for d in there)


@pytest.mark.parametrize('options', [
    dict(type='SAM', rho=0.), dict(type='AUSAM', rho=0., alpha=1.)], ids=str)
def test_without_radius_it_is_the_base_bit_for_bit(options):
    plain, other = toy(), toy()
    wrappers = [wrap(plain, type='OptimWrapper'), wrap(other, **options)]
    for model, wrapper in zip((plain, other), wrappers):
        torch.manual_seed(1)
        for i in range(STEPS):
            model.train_step(batch(i), wrapper)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    for step, start in zip(steps_and_others(plain)[0],
                           steps_and_others(toy())[0]):
        assert not torch.equal(step, start)


METHODS = dict(
    SAM={}, AUSAM=dict(alpha=0.5, warmup_iters=1), ESAM={}, FSAM={}, KSAM={},
    SSSAM={}, VSAM={}, LookSAM=dict(k=2), AESAM={}, AELookSAM={}, MSAM={},
    GSAM={}, RandomSAM={}, SplitSAM={}, SAMPa={})


@pytest.mark.parametrize('name', list(METHODS))
def test_no_method_moves_step_sizes(name):
    model = toy()
    wrapper = wrap(model, type=name, rho=1., lr=0., **METHODS[name])
    wrapper.initialize_count_status(model, 0, 6)
    steps, others = steps_and_others(model)
    model.net(batch()['inputs'])
    seen = []
    model.net.register_forward_pre_hook(lambda *_: seen.append(
        [torch.cat([p.detach().flatten() for p in part])
         for part in (steps, others)]))
    for i in range(6):
        model.train_step(batch(i), wrapper)
    assert all(torch.equal(of_steps, seen[0][0]) for of_steps, _ in seen)
    assert any(not torch.equal(rest, seen[0][1]) for _, rest in seen)


def test_a_compiled_model_is_the_same():
    model, compiled = toy(), toy()
    compiled.net.compile(backend='eager')
    wrappers = [wrap(m, type='SAM', rho=0.1) for m in (model, compiled)]
    for m, wrapper in zip((model, compiled), wrappers):
        for i in range(3):
            m.train_step(batch(i), wrapper)
    for p, q in zip(model.parameters(), compiled.parameters()):
        torch.testing.assert_close(p, q)


def test_a_compiled_backward_pass_is_the_same():
    model, compiled, data = toy(), toy(), batch()
    model.net(data['inputs'])
    compiled.load_state_dict(model.state_dict())
    compiled.net.compile(backend='aot_eager')
    compiled.eval()
    for m in (model.eval(), compiled):
        m.net(data['inputs']).square().sum().backward()
    for p, q in zip(model.parameters(), compiled.parameters()):
        torch.testing.assert_close(q.grad, p.grad)


@pytest.mark.parametrize('alpha', [1., (0.25, 0.75)], ids=str)
def test_the_first_pass_initializes(alpha):
    """At w, not at w + eps, and from what the first pass sees."""
    model, late = toy(), toy()
    wrapper = wrap(model, type='AUSAM', rho=5., alpha=alpha, lr=0.)
    selections, select = [], wrapper.select
    wrapper.select = lambda data: selections.append(
        select(data)) or selections[-1]
    model.train_step(batch(), wrapper)
    late.net(batch()['inputs'][selections[0].ascent])
    for p, q in zip(*(steps_and_others(m)[0] for m in (model, late))):
        assert torch.equal(p, q)


def test_a_sam_step_of_a_quantized_model_is_that_of_a_loop_in_torch():
    model, reference = toy(), toy()
    data = batch()
    reference.net(data['inputs'])
    model.load_state_dict(reference.state_dict())
    wrapper = wrap(model, type='SAM', rho=0.3, momentum=0.)
    wrapper.train_step = model.train_step(data, wrapper)
    steps, others = steps_and_others(reference)
    grads = torch.autograd.grad(
        sample_losses(reference, data).mean(), others)
    norm = torch.cat([g.flatten() for g in grads]).norm()
    at_w = [p.detach().clone() for p in others]
    for p, g in zip(others, grads):
        p.data.add_(g, alpha=0.3 / norm.item())
    everything = [*steps, *others]
    grads = torch.autograd.grad(
        sample_losses(reference, data).mean(), everything)
    for p, w in zip(others, at_w):
        p.data.copy_(w)
    for p, g in zip(everything, grads):
        p.data.sub_(0.05 * (g + 1e-3 * p))
    for p, q in zip([*steps, *others],
                    [q for part in steps_and_others(model) for q in part]):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize('base', [
    dict(type='CPUAmpOptimWrapper', dtype='float16'),
    dict(type='CPUAmpOptimWrapper', dtype='bfloat16', loss_scale=1.)], ids=str)
def test_mixed_precision_trains(base):
    model = toy().float()
    wrapper = wrap(model, type='AUSAM', rho=0.1, alpha=0.5, warmup_iters=1,
                   base=base)
    start = [p.detach().clone() for p in model.parameters()]
    for i in range(STEPS):
        data = batch(i)
        for sample in data['data_samples']:
            sample.gt = sample.gt.float()
        model.train_step(dict(data, inputs=data['inputs'].float()), wrapper)
    for p, was in zip(model.parameters(), start):
        assert p.dtype == torch.float32 and p.isfinite().all()
        assert not torch.equal(p, was)


def test_a_not_finite_gradient_leaves_step_sizes_valid():
    model = toy()
    wrapper = wrap(model, type='OptimWrapper')
    guard_step_sizes(wrapper.optimizer)
    model.train_step(batch(), wrapper)
    steps, _ = steps_and_others(model)
    before = [p.detach().clone() for p in steps]
    data = batch(1)
    data['inputs'][0] = float('nan')
    model.train_step(data, wrapper)
    assert not model.net[0].weight.isfinite().all()
    assert all(p > 0 and p.isfinite() for p in steps)
    assert any(torch.equal(p, was) for p, was in zip(steps, before))
    assert isinstance(model.net[0], nn.Linear)
