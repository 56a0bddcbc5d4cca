"""The quantizer's gradients against LSQ in plain autograd operations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

from ausam_mm.quantization import LSQuantizer, quantize_layer


def quantizer(step, bits=4, signed=True, **options):
    step = torch.as_tensor(step, dtype=torch.double)
    module = LSQuantizer(bits, signed, step.shape, **options).double()
    module.initialize_with(step, signed)
    return module


def plain(x, step, bits, signed, sharing):
    """LSQ with a straight-through estimator; autograd does the rest."""
    low, high = (-2**(bits - 1), 2**(bits - 1) - 1) if signed else (
        0, 2**bits - 1)
    # The value is the step size's, the gradient a part of it.
    step = step.detach() + (step - step.detach()) / math.sqrt(sharing * high)
    ratio = x / step
    clipped = torch.where((ratio > low) & (ratio < high), ratio,
                          ratio.detach().clamp(low, high))
    return (clipped + (clipped.round() - clipped).detach()) * step


@st.composite
def cases(draw):
    """Quantizer, tensor and step sizes of the same values, and gradient.

    Many values lie on a bound of the range, or in the middle between two
    integers; a step size that is a power of two keeps them there exactly.
    """
    bits, signed = draw(st.integers(2, 8)), draw(st.booleans())
    per_channel, activation = draw(st.sampled_from(
        [(False, False), (True, False), (False, True)]))
    sizes = st.sampled_from([0.25, 2.]) | st.floats(1e-3, 1e3)
    steps = torch.tensor(draw(st.lists(sizes, min_size=3, max_size=3)))
    step = steps.double().view(3, 1) if per_channel else steps[0].double()
    bound = 2**bits
    numbers = st.integers(-bound - 2, bound + 2)
    ratio = draw(st.lists(
        numbers | numbers.map(lambda n: n + 0.5) | st.floats(-bound, bound) |
        st.sampled_from([-bound / 2., bound / 2 - 1., bound - 1., 0., 1e30]),
        min_size=12, max_size=12))
    grads = draw(st.lists(st.floats(-8, 8), min_size=12, max_size=12))
    x = torch.tensor(ratio).double().view(3, 4) * step
    module = quantizer(step, bits, signed, activation=activation)
    sharing = 4 if activation or per_channel else 12
    return (module, x.requires_grad_(), step.clone().requires_grad_(),
            torch.tensor(grads).double().view(3, 4),
            dict(bits=bits, signed=signed, sharing=sharing))


def first_and_second(output, x, step, weight):
    """Gradients, and those of a function of the gradients."""
    # Not linear, so that second derivatives reach x and the step size.
    loss = (output.tanh() * weight).sum()
    first = torch.autograd.grad(loss, (x, step), create_graph=True)
    return first, torch.autograd.grad(
        sum(part.square().sum() for part in first), (x, step))


@given(cases())
@settings(max_examples=100, deadline=None)
def test_gradients_are_those_of_plain_autograd(case):
    module, x, step, weight, options = case
    output, want = module(x), plain(x, step, **options)
    torch.testing.assert_close(output, want)
    mine = torch.autograd.grad(output, (x, module.step), weight)
    theirs = torch.autograd.grad(want, (x, step), weight)
    assert torch.equal(mine[0], theirs[0])
    # The reference's are differences of terms of this size.
    size = (weight * x / step).abs().clamp(max=256 * 8).sum().item()
    torch.testing.assert_close(
        mine[1], theirs[1], rtol=1e-6, atol=1e-12 * size)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_second_derivatives_are_those_of_plain_autograd(case):
    module, x, step, weight, options = case
    mine = first_and_second(module(x), x, module.step, weight)
    theirs = first_and_second(plain(x, step, **options), x, step, weight)
    for ours, others in zip(mine, theirs):
        for a, b in zip(ours, others):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_gradients_do_not_depend_on_create_graph(case):
    module, x, _, weight, _ = case
    with_graph, without = (torch.autograd.grad(
        module(x), (x, module.step), weight, create_graph=keep)
        for keep in (True, False))
    for a, b in zip(with_graph, without):
        assert torch.equal(a, b)


def hessian(outputs, params):
    """Of the sum of squares, as one matrix."""
    first = torch.autograd.grad(
        outputs.square().sum(), params, create_graph=True)
    flat = torch.cat([part.flatten() for part in first])
    return torch.stack([torch.cat([
        part.flatten() for part in torch.autograd.grad(
            element, params, retain_graph=True)]) for element in flat])


def test_a_hessian_through_the_step_sizes_is_symmetric():
    torch.manual_seed(0)
    x, weight = torch.randn(5, 3).double(), torch.randn(2, 3).double()
    weight.requires_grad_()
    # One weight shares each step size, so that no factor scales gradients.
    module = quantizer(torch.full((2, 3), 0.3), bits=2)
    matrix = hessian(x @ module(weight).T, [weight, module.step])
    torch.testing.assert_close(matrix, matrix.T)
    assert matrix[:6, 6:].ne(0).any()


@pytest.mark.parametrize('needs', [(True, False), (False, True)], ids=str)
def test_only_the_gradient_that_is_needed_is_computed(needs):
    module = quantizer(0.3)
    module.step.requires_grad_(needs[1])
    x = torch.randn(4, 6).double().requires_grad_(needs[0])
    module(x).sum().backward()
    assert ((x.grad is None), (module.step.grad is None)) == (
        not needs[0], not needs[1])


def test_neither_input_nor_gradient_nor_step_size_is_changed():
    module, x = quantizer(0.3), torch.randn(4, 6).double().requires_grad_()
    weight = torch.randn(4, 6).double()
    before = [t.detach().clone() for t in (x, weight, module.step)]
    for keep in (False, True):
        module(x).backward(weight, create_graph=keep)
    for tensor, was in zip((x, weight, module.step), before):
        assert torch.equal(tensor.detach(), was)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_gradients_in_low_precision_are_rounded_only_at_the_end(dtype):
    module = LSQuantizer(8, True, activation=True)
    module.initialize_with(torch.tensor(0.02), True)
    x = torch.randn(64, 100).to(dtype).requires_grad_()
    weight = torch.randn(64, 100).to(dtype)
    with torch.autocast('cpu', dtype):
        output = module(x)
    mine = torch.autograd.grad(output, (x, module.step), weight)
    high, step = (
        t.detach().clone().float().requires_grad_() for t in (x, module.step))
    want = plain(high, step, 8, True, 100)
    theirs = torch.autograd.grad(want, (high, step), weight.float())
    assert output.dtype == mine[0].dtype == dtype
    assert torch.equal(output, want.to(dtype))
    assert torch.equal(mine[0], theirs[0].to(dtype))
    torch.testing.assert_close(mine[1], theirs[1], rtol=1e-4, atol=1e-4)


def test_gradients_of_a_view_are_those_of_a_copy():
    module = quantizer(torch.full((3, 1, 1), 0.3))
    x = torch.randn(4, 5, 3).double()
    weight = torch.randn(4, 5, 3).double()
    mine, theirs = (torch.autograd.grad(
        module(t), (t, module.step), w) for t, w in (
            (x.permute(2, 0, 1).requires_grad_(), weight.permute(2, 0, 1)),
            (x.permute(2, 0, 1).contiguous().requires_grad_(),
             weight.permute(2, 0, 1).contiguous())))
    torch.testing.assert_close(mine[0], theirs[0])
    torch.testing.assert_close(mine[1], theirs[1])


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).double()
    for i in (0, 3):
        quantize_layer(model[i], 4, 4, per_channel=True)
    model(torch.randn(8, 2, 5, 5).double())
    return model


def by_name(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def test_torch_func_gives_the_gradients_of_backward(net):
    x, params = torch.randn(6, 2, 5, 5).double(), by_name(net)

    def loss(params, x):
        return functional_call(net, params, (x, )).square().sum()

    of_all = grad(loss)(params, x)
    # The gradient factor counts one sample, so samples' gradients add up.
    of_each = vmap(grad(loss), (None, 0))(params, x[:, None])
    loss(dict(net.named_parameters()), x).backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(of_all[name], p.grad)
        torch.testing.assert_close(of_each[name].sum(0), p.grad)


def test_torch_func_gives_autograds_hessian(net):
    x = torch.randn(2, 2, 5, 5).double()
    params = [net[0].bias, net[0].weight_quantizer.step,
              net[3].input_quantizer.step]
    names = ['0.bias', '0.weight_quantizer.step', '3.input_quantizer.step']
    sizes = [p.numel() for p in params]

    def loss(flat):
        parts = [part.view_as(p) for part, p in zip(flat.split(sizes), params)]
        return functional_call(
            net, dict(zip(names, parts)), (x, )).square().sum()

    flat = torch.cat([p.detach().flatten() for p in params])
    torch.testing.assert_close(
        jacrev(jacrev(loss))(flat), hessian(net(x), params))
