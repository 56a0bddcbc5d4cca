"""The quantizer against the paper's equations, and against bad inputs."""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ausam_mm.quantization import LSQuantizer, StepSize, guard_step_sizes
from ausam_mm.quantization.step_size import is_step_size

from . import reference

SETTINGS = st.tuples(st.integers(2, 8), st.booleans(), st.booleans())


def quantizer(bits=4, signed=True, shape=(), step=None, **options):
    module = LSQuantizer(bits, signed, shape, **options).double()
    if step is not None:
        module.initialize_with(torch.as_tensor(step), signed)
    return module


def tensor(seed, *shape, signed=True):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.double)
    return x if signed else x.relu()


@given(SETTINGS, st.integers(0, 9), st.floats(0.02, 2.))
@settings(max_examples=60, deadline=None)
def test_output_and_gradients_are_the_papers(setting, seed, step):
    bits, signed, per_channel = setting
    x = tensor(seed, 3, 2, 4, signed=signed)
    grad = tensor(seed + 100, 3, 2, 4)
    steps = torch.full((3, 1, 1) if per_channel else (), step,
                       dtype=torch.double)
    if per_channel:
        steps = steps * torch.tensor([1., 0.5, 2.]).double().view(3, 1, 1)
    module = quantizer(bits, signed, steps.shape, steps)
    x.requires_grad_()
    output = module(x)
    output.backward(grad)
    torch.testing.assert_close(
        output, reference.forward(x.detach(), steps, bits, signed))
    parts = [(x[i], x.grad[i], grad[i], steps[i].item(),
              module.step.grad[i].item()) for i in range(3)
             ] if per_channel else [(x, x.grad, grad, step,
                                     module.step.grad.item())]
    for part, of_x, g, s, of_s in parts:
        want_x, want_s = reference.gradients(
            part.detach(), s, g, bits, signed, part.numel())
        torch.testing.assert_close(of_x, want_x)
        assert of_s == pytest.approx(want_s, rel=1e-9, abs=1e-12)


def test_an_activations_features_are_counted_without_the_batch():
    x, grad = tensor(0, 5, 2, 3), tensor(1, 5, 2, 3)
    module = quantizer(3, step=0.4, activation=True)
    module(x).backward(grad)
    want = reference.gradients(x, 0.4, grad, 3, True, sharing=6)[1]
    assert module.step.grad.item() == pytest.approx(want)


@given(SETTINGS, st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_step_gradient_is_the_surrogates_slope(setting, seed):
    """In the surrogate rounding adds a constant, found at the point itself."""
    bits, signed, _ = setting
    low, high = -reference.bounds(bits, signed)[0], reference.bounds(
        bits, signed)[1]
    x, grad = tensor(seed, 40, signed=signed), tensor(seed + 100, 40)
    step, delta = 0.3, 1e-6
    offset = (x / step).round() - x / step

    def surrogate(s):
        inside = (x / step > low) & (x / step < high)
        codes = torch.where(inside, x / s + offset,
                            (x / step).clamp(low, high))
        return (codes * s * grad).sum().item()

    module = quantizer(bits, signed, step=step)
    module(x).backward(grad)
    slope = (surrogate(step + delta) - surrogate(step - delta)) / 2 / delta
    scale = 1 / math.sqrt(40 * high)
    assert module.step.grad.item() == pytest.approx(
        slope * scale, rel=1e-5, abs=1e-6)


@given(SETTINGS, st.integers(0, 9), st.floats(1e-30, 1e30))
@settings(max_examples=40, deadline=None)
def test_initial_step_is_the_papers_at_any_scale(setting, seed, scale):
    bits, signed, per_channel = setting
    x = (tensor(seed, 4, 3, signed=signed) * scale).float()
    module = LSQuantizer(bits, signed, (4, 1) if per_channel else ())
    output = module(x)
    for part, step in zip(x if per_channel else [x], module.step.flatten()):
        if part.any():
            want = reference.initial_step(part.double(), bits, signed)
            assert step.item() == pytest.approx(want, rel=1e-5)
    assert output.isfinite().all()


@pytest.mark.parametrize('signed', [True, False])
def test_the_first_data_decide_the_sign(signed):
    module = LSQuantizer(4, activation=True)
    module(tensor(0, 8, 3, signed=signed).float())
    assert module.signed is signed
    low, high = reference.bounds(4, signed)
    assert module.bounds == (-low, high)
    module(tensor(1, 8, 3).float())  # later data decide nothing
    assert module.signed is signed


def test_only_the_first_pass_initializes():
    module = LSQuantizer(4, activation=True)
    module(torch.ones(2, 3))
    first = module.step.item()
    module(torch.ones(2, 3) * 100)
    assert module.step.item() == first == pytest.approx(2 / 15**0.5)


def test_in_eval_mode_a_new_quantizer_passes_through():
    module = LSQuantizer(4, activation=True).eval()
    x = torch.randn(2, 3)
    with pytest.warns(UserWarning, match='without step size'):
        assert torch.equal(module(x), x)
    assert not module.ready
    module.train()
    with torch.no_grad():
        module(x)
    assert module.ready
    assert not torch.equal(module.eval()(x), x)


def test_a_frozen_layer_is_initialized_in_eval_mode():
    module = LSQuantizer(4).eval().requires_grad_(False)
    module(torch.randn(2, 3))
    assert module.ready


def test_a_checkpoint_brings_its_step_size():
    trained = LSQuantizer(4, activation=True)
    trained(tensor(0, 8, 3, signed=False).float())
    new = LSQuantizer(4, activation=True).eval()
    new.load_state_dict(trained.state_dict())
    x = torch.randn(8, 3)
    assert not new.signed
    assert torch.equal(new(x), trained(x))
    assert torch.equal(new.train()(x), trained(x))


def test_a_float_models_checkpoint_leaves_it_to_the_data():
    module = LSQuantizer(4, True)
    assert not module.load_state_dict({}).missing_keys
    module(torch.ones(3))
    assert module.step.item() == pytest.approx(2 / 7**0.5)


@pytest.mark.parametrize('value', [0., -1., math.nan, math.inf])
def test_no_step_size_in_a_checkpoint_counts_as_missing(value):
    state = dict(LSQuantizer(4, True).state_dict(), step=torch.tensor(value),
                 initialized=torch.tensor(1, dtype=torch.uint8))
    module = LSQuantizer(4, True)
    module.load_state_dict(state)
    module(torch.ones(3))
    assert module.step.item() == pytest.approx(2 / 7**0.5)


def test_copies_and_averages_follow_the_buffers():
    """Whoever averages models copies buffers behind the module's back."""
    module = LSQuantizer(4, activation=True)
    other = copy.deepcopy(module).eval()
    module(torch.randn(4, 3))
    for mine, theirs in zip(other.state_dict().values(),
                            module.state_dict().values()):
        mine.copy_(theirs)
    x = torch.randn(4, 3)
    assert torch.equal(other(x), module(x))
    assert isinstance(other.step, StepSize)
    assert isinstance(copy.deepcopy(module).double().step, StepSize)


def test_autocast_changes_only_the_precision_of_the_result():
    module = LSQuantizer(8, activation=True)
    x = torch.randn(4, 300)
    module(x)
    module.step.grad = None
    with torch.autocast('cpu', torch.bfloat16):
        low = x.bfloat16().requires_grad_()
        output = module(low)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, module(low.float()).bfloat16())
    (output.float() * x).sum().backward()
    assert low.grad.dtype == torch.bfloat16
    assert module.step.grad.dtype == torch.float32


BAD = st.sampled_from([
    torch.zeros(3, 4), torch.full((3, 4), 5.), torch.full((3, 4), -1e30),
    torch.full((3, 4), 1e-30), torch.full((3, 4), 1e-44),
    torch.full((3, 4), 3.4e38), torch.tensor([[0.] * 4, [1.] * 4, [-2.] * 4]),
    torch.full((3, 4), math.nan), torch.full((3, 4), math.inf),
    torch.tensor([[1e30, 1e-30, 0., -1.]] * 3)
])
GRADS = st.sampled_from([0., 1., -1., 1e30, -1e30, math.nan, math.inf])
RATES = st.sampled_from([1e-3, 1., 1e4])


@given(SETTINGS, BAD, st.lists(GRADS, min_size=1, max_size=3), RATES,
       st.sampled_from(['SGD', 'Adam', 'AdamW']), st.booleans(),
       st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
@settings(max_examples=300, deadline=None)
def test_a_step_size_stays_positive_and_finite(setting, x, grads, rate, kind,
                                               activation, dtype):
    bits, signed, per_channel = setting
    module = LSQuantizer(bits, signed, (3, 1) if per_channel else (),
                         activation and not per_channel).to(dtype)
    optimizer = getattr(torch.optim, kind)(
        module.parameters(), lr=rate, weight_decay=0.1)
    guard_step_sizes(optimizer)
    x = x.to(dtype)
    for grad in grads:
        output = module(x)
        assert is_step_size(module.step).all()
        if x.isfinite().all():
            assert output.isfinite().all()
        module.step.grad = torch.full(module.step.shape, grad).to(dtype)
        optimizer.step()
        assert is_step_size(module.step).all()
        assert module.step.isfinite().all() and (module.step > 0).all()


def test_a_refused_update_leaves_the_other_elements_theirs():
    module = quantizer(shape=(4, 1), step=torch.ones(4, 1))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.)
    guard_step_sizes(optimizer)
    module.step.grad = torch.tensor([[0.5], [1.], [2.], [math.nan]]).double()
    optimizer.step()
    assert module.step.flatten().tolist() == [0.5, 1., 1., 1.]


@pytest.mark.parametrize('bits', [1, 9, 4., True, None])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match='choose 2 to 8 bits'):
        LSQuantizer(bits)


def test_zeros_count_as_of_mean_size_one_or_of_fan_in():
    activation, weight = LSQuantizer(4, True, activation=True), LSQuantizer(
        4, True)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        activation(torch.zeros(2, 16))
        weight(torch.zeros(2, 16))
    assert activation.step.item() == pytest.approx(2 / 7**0.5)
    assert weight.step.item() == pytest.approx(2 / 7**0.5 / 4)
