"""What is exported to ONNX, and that onnxruntime computes the same."""

import copy
import sys

import numpy as np
import onnx
import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from onnx import TensorProto, numpy_helper
from torch import nn

from ausam_mm.quantization import (
    compare_onnx,
    export_onnx,
    fold_batchnorm,
    quantize_layer,
    quantize_model,
)

from .models import ARCHITECTURES, images, layers_of, lsq_model


def exported(model, path, *args, **options):
    export_onnx(model, path, *args, **options)
    graph = onnx.load(path).graph
    return graph, {tensor.name: tensor for tensor in graph.initializer}


def two_stages(name):
    """A shallow model: exporting takes time by layer."""
    architecture = copy.deepcopy(ARCHITECTURES[name])
    architecture['backbone'].update(
        num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1, ))
    architecture['head']['in_channels'] = 8
    if name == 'simcc':
        architecture['head']['in_featuremap_size'] = (4, 4)
    return architecture


@pytest.mark.parametrize('name, bits, per_channel, folded, int4', [
    ('classifier', (4, 4), False, False, True),
    ('classifier', (2, 4), True, True, True),
    ('simcc', (8, 8), False, True, True),
    ('simcc', (2, 4), False, False, False),
])
def test_onnxruntime_computes_the_same(tmp_path, name, bits, per_channel,
                                       folded, int4):
    x = torch.stack(images(8))
    model = lsq_model(name, two_stages(name), w_bits=bits[0], a_bits=bits[1],
                      per_channel=per_channel)
    model(x, None)  # initializes the step sizes
    model.eval()
    if folded:
        model = fold_batchnorm(model, x[:1], None)
    path = tmp_path / 'model.onnx'
    graph, tensors = exported(model, path, x[:2], None, int4=int4)
    found = compare_onnx(model, path, x, None)
    assert found.explained and found.same_argmax == 1
    assert found.largest < 1e-4 * found.size + 50 * found.own
    assert [value.name for value in graph.output] == (
        ['output'] if name == 'classifier' else ['output_0', 'output_1'])
    layers = layers_of(model)
    kinds = [node.op_type for node in graph.node]
    assert kinds.count('QuantizeLinear') == len(layers)
    assert kinds.count('DequantizeLinear') == 2 * len(layers)
    # Types hold 4 bits or 8 bits; only without 4-bit types must 4 be clipped.
    clipped = sum(not int4 and layer.input_quantizer.bits == 4
                  for layer in layers.values())
    assert kinds.count('Clip') == clipped
    small = {TensorProto.INT4} if int4 else {TensorProto.INT8}
    for path, layer in layers.items():
        quantizer = layer.weight_quantizer
        kind = tensors[f'{path}.weight_quantizer.codes'].data_type
        assert kind in (small if quantizer.bits <= 4 else {TensorProto.INT8})
        for which in ('weight', 'input'):
            step = numpy_helper.to_array(
                tensors[f'{path}.{which}_quantizer.step'])
            ours = getattr(layer, f'{which}_quantizer').step
            assert np.array_equal(step, ours.detach().flatten().numpy()
                                  if step.ndim else ours.detach().numpy())
        codes = numpy_helper.to_array(
            tensors[f'{path}.weight_quantizer.codes']).astype('float32')
        step = quantizer.step.detach().numpy()
        assert np.array_equal(
            codes * step, quantizer(layer.weight).detach().numpy())
        # Weights are not there in float, too.
        assert f'model.{path}.weight' not in tensors
    assert not any(node.metadata_props for node in graph.node)


class Others(nn.Module):
    """Layers that are exported in a way of their own."""

    def __init__(self):
        super().__init__()
        self.padded = Conv2dAdaptivePadding(3, 8, 3, stride=2)
        self.grouped = nn.ConvTranspose2d(8, 12, 3, stride=2, groups=2)
        self.single = nn.ConvTranspose2d(12, 6, 2, bias=False)
        self.shared = nn.Conv2d(6, 6, 1)
        self.sequence = nn.Linear(6, 4)

    def forward(self, x):
        x = self.single(self.grouped(self.padded(x).relu()).relu())
        x = self.shared(self.shared(x).relu())
        return self.sequence(x.flatten(2).transpose(1, 2))


@pytest.mark.parametrize('bits, per_channel', [((3, 2), True),
                                               ((5, 7), False)])
def test_linear_and_transposed_layers_of_odd_bits_are_exported(
        tmp_path, bits, per_channel):
    torch.manual_seed(0)
    model = Others()
    quantize_model(model, *bits, first_last_bits=6, per_channel=per_channel)
    x = 3 * torch.randn(4, 3, 9, 9)
    model(x)
    graph, tensors = exported(model, tmp_path / 'model.onnx', x / 3)
    found = compare_onnx(model.eval(), tmp_path / 'model.onnx', x)
    assert found.mean < 1e-4 * found.size + 4 * found.own
    kinds = [node.op_type for node in graph.node]
    assert kinds.count('Clip') == kinds.count('QuantizeLinear') == 6
    quantizer = model.padded.input_quantizer
    assert numpy_helper.to_array(tensors['padded.input_quantizer.low']) == (
        -32 * quantizer.step.detach()).numpy()


class Branches(nn.Module):
    """Each branch rounds to levels of its own."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Linear(1, 1, bias=False) for _ in range(4))

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], -1)


def test_ties_values_out_of_range_and_a_wrong_file(tmp_path):
    model = Branches()
    for branch, bits, signed in zip(model.branches, (4, 4, 3, 8),
                                    (True, False, False, True)):
        quantize_layer(branch, bits, bits)
        nn.init.ones_(branch.weight)
        for quantizer in (branch.weight_quantizer, branch.input_quantizer):
            quantizer.initialize_with(torch.tensor(0.25), signed)
    x = torch.arange(-600, 601).view(-1, 1) / 8  # every second is a tie
    path = tmp_path / 'model.onnx'
    export_onnx(model, path, x)
    found = compare_onnx(model, path, x)
    assert found.explained and found.largest == 0
    model.branches[2].input_quantizer.initialize_with(
        torch.tensor(0.5), False)
    assert not compare_onnx(model, path, x).explained


def test_a_model_that_cannot_be_exported_is_refused_with_a_sentence(
        tmp_path, monkeypatch):
    model = nn.Sequential(nn.Linear(6, 8))
    quantize_model(model, 4, 4, first_last_bits=4)
    x = torch.randn(2, 6)
    with pytest.warns(UserWarning), pytest.raises(
            ValueError, match='load a checkpoint of the quantized'):
        export_onnx(model, tmp_path / 'model.onnx', x)
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match='pip install "onnx>='):
        export_onnx(model, tmp_path / 'model.onnx', x)
