"""Quantized layers against the functional layer on quantized tensors."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ausam_mm.quantization import LSQLayer, quantize_layer
from ausam_mm.quantization.layers import kind_of

from . import reference

CONVS = dict(
    plain=dict(), strided=dict(stride=2, padding=1, bias=False),
    grouped=dict(groups=2), depthwise=dict(groups=4, padding=2, dilation=2),
    circular=dict(padding=1, padding_mode='circular'))


def on_grid(x, bits, signed, dims=()):
    """A tensor by the paper's initial step sizes, one for each of dims."""
    parts = list(x.flatten(0, dims - 1)) if dims else [x]
    steps = [torch.tensor(reference.initial_step(part, bits, signed)).double()
             for part in parts]
    return torch.stack([
        reference.forward(part, step, bits, signed)
        for part, step in zip(parts, steps)]).view_as(x)


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('name', list(CONVS))
def test_a_convolution_is_one_of_quantized_tensors(name, per_channel):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, **CONVS[name]).double()
    plain = copy.deepcopy(layer)
    x = torch.randn(2, 4, 7, 7).double().relu()
    quantize_layer(layer, 3, 4, per_channel=per_channel)
    with torch.no_grad():
        plain.weight.copy_(on_grid(plain.weight, 3, True, int(per_channel)))
    torch.testing.assert_close(layer(x), plain(on_grid(x, 4, False)))
    assert isinstance(layer, nn.Conv2d) and isinstance(layer, LSQLayer)
    assert [*dict(layer.named_parameters())][:1] == ['weight']


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('groups', [1, 2])
def test_a_transposed_convolution_is_quantized(groups, per_channel):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(
        4, 6, 4, stride=2, padding=1, groups=groups).double()
    plain = copy.deepcopy(layer)
    x = torch.randn(2, 4, 5, 5).double()
    quantize_layer(layer, 3, 4, per_channel=per_channel)
    with torch.no_grad():
        # Channels first: (groups, outputs of a group, inputs of it, ...).
        weight = plain.weight.unflatten(0, (groups, -1)).transpose(1, 2)
        weight = on_grid(weight.contiguous(), 3, True, 2 * per_channel)
        plain.weight.copy_(weight.transpose(1, 2).flatten(0, 1))
    x_on_grid = on_grid(x, 4, True)
    torch.testing.assert_close(layer(x), plain(x_on_grid))
    torch.testing.assert_close(
        layer(x, output_size=(11, 11)), plain(x_on_grid, (11, 11)))


@pytest.mark.parametrize('per_channel', [False, True])
def test_a_linear_layer_is_quantized(per_channel):
    torch.manual_seed(0)
    layer = nn.Linear(5, 3).double()
    weight, x = layer.weight.detach().clone(), torch.randn(2, 4, 5).double()
    quantize_layer(layer, 2, 3, per_channel=per_channel)
    torch.testing.assert_close(
        layer(x), F.linear(on_grid(x, 3, True),
                           on_grid(weight, 2, True, int(per_channel)),
                           layer.bias))


def test_every_parameter_gets_a_gradient():
    layer = nn.Conv2d(4, 4, 3)
    quantize_layer(layer, 4, 4)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    layer(x).square().sum().backward()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.ne(0).any()


def test_wrappers_and_children_of_torchs_layers_work():
    from mmcv.cnn import ConvModule
    from mmcv.cnn.bricks import wrappers

    class Padded(wrappers.Conv2d):

        def forward(self, x):
            return super().forward(F.pad(x, (1, 2, 1, 2)))

    for layer, x in ((wrappers.Conv2d(3, 4, 3), torch.randn(1, 3, 5, 5)),
                     (wrappers.ConvTranspose2d(3, 4, 3),
                      torch.randn(1, 3, 5, 5)),
                     (wrappers.Linear(3, 4), torch.randn(2, 3)),
                     (Padded(3, 4, 3), torch.randn(1, 3, 5, 5))):
        shape, own = layer(x).shape, type(layer)
        quantize_layer(layer, 4, 4)
        assert layer(x).shape == shape and isinstance(layer, own)
        assert layer.weight_quantizer.ready and layer.input_quantizer.ready
        # As MMEngine's initialization looks them up.
        names = [base.__name__ for base in type(layer).__bases__]
        assert {own.__name__, *(b.__name__ for b in own.__bases__)} <= {*names}
    block = ConvModule(3, 4, 3, norm_cfg=dict(type='BN'))
    quantize_layer(block.conv, 4, 4)
    block(torch.randn(2, 3, 5, 5))
    assert block.conv.weight_quantizer.ready


def test_a_convolution_that_pads_by_itself_is_quantized():
    from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
    torch.manual_seed(0)
    layer = Conv2dAdaptivePadding(3, 4, 3, stride=2).double()
    plain, x = copy.deepcopy(layer), torch.randn(1, 3, 6, 6).double()
    quantize_layer(layer, 3, 4)
    with torch.no_grad():
        plain.weight.copy_(on_grid(plain.weight, 3, True))
    output = layer(x)
    torch.testing.assert_close(output, plain(on_grid(x, 4, True)))
    output.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert 'weight' not in vars(layer)


def test_layers_with_a_forward_of_their_own_are_left_or_refused():
    from mmcv.cnn.bricks.conv_ws import ConvWS2d

    class Own(nn.Linear):

        def forward(self, x):
            return F.linear(F.normalize(x), F.normalize(self.weight))

    attention = nn.MultiheadAttention(4, 2)
    assert kind_of(Own(2, 2)) is kind_of(attention.out_proj) is None
    with pytest.raises(ValueError, match='only Conv2d, ConvTranspose2d and'):
        quantize_layer(Own(2, 2), 4, 4)
    layer = ConvWS2d(3, 4, 3)
    quantize_layer(layer, 4, 4)
    with pytest.raises(RuntimeError, match='ConvWS2d .* into LSQModel.s skip'):
        layer(torch.randn(1, 3, 5, 5))


def test_a_layer_is_quantized_once():
    layer = nn.Linear(2, 2)
    quantize_layer(layer, 4, 4)
    with pytest.raises(ValueError, match='quantize a model only once'):
        quantize_layer(layer, 4, 4)


def test_frozen_layers_stay_frozen():
    layer = nn.Linear(2, 2).requires_grad_(False).eval()
    quantize_layer(layer, 4, 4)
    assert not any(p.requires_grad for p in layer.parameters())
    layer(torch.randn(2, 2))
    assert layer.weight_quantizer.ready and layer.input_quantizer.ready


@pytest.mark.parametrize('perturbed', [False, True])
def test_whole_models_can_be_pickled(perturbed, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(36, 2))
    for layer in model[0], model[2]:
        quantize_layer(layer, 4, 4, perturbed=perturbed)
    x = torch.randn(2, 3, 5, 5)
    before = model(x)
    torch.save(model, tmp_path / 'model.pth')
    loaded = torch.load(tmp_path / 'model.pth', weights_only=False)
    assert torch.equal(loaded(x), before)
    for module in loaded, copy.deepcopy(model):
        assert type(module[0]) is type(model[0])
        assert module[0].weight is not model[0].weight
        for p, q in zip(module.parameters(), model.parameters()):
            assert type(p) is type(q)
    assert model[0].input_quantizer.step.perturbed is perturbed
