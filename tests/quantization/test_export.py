"""What is exported to ONNX, and that onnxruntime computes the same."""

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
    quantize_model,
)

from .models import images, layers_of, lsq_model


def exported(model, path, *args, **options):
    export_onnx(model, path, *args, **options)
    graph = onnx.load(path).graph
    return graph, {tensor.name: tensor for tensor in graph.initializer}


@pytest.mark.parametrize('name, bits, per_channel, folded, int4', [
    ('classifier', (4, 4), False, False, True),
    ('classifier', (2, 4), True, True, True),
    ('simcc', (8, 8), False, True, True),
    ('simcc', (2, 4), False, False, False),
])
def test_onnxruntime_computes_the_same(tmp_path, name, bits, per_channel,
                                       folded, int4):
    x = torch.stack(images(8))
    model = lsq_model(name, w_bits=bits[0], a_bits=bits[1],
                      per_channel=per_channel)
    model(x, None)
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
def test_other_layers_and_bits_between_types(tmp_path, bits, per_channel):
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


@pytest.mark.parametrize('bits, signed', [(4, True), (4, False), (3, False),
                                          (8, True)])
def test_ties_and_values_out_of_range(tmp_path, bits, signed):
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    quantize_model(model, bits, bits, first_last_bits=bits)
    for quantizer in (model[0].weight_quantizer, model[0].input_quantizer):
        quantizer.initialise_with(torch.tensor(0.25), signed)
    nn.init.ones_(model[0].weight)
    x = torch.arange(-600, 601).view(-1, 1) / 8  # every second is a tie
    export_onnx(model, tmp_path / 'model.onnx', x)
    assert compare_onnx(model, tmp_path / 'model.onnx', x).largest == 0


def test_a_wrong_file_is_noticed(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    quantize_model(model, 4, 4, first_last_bits=4)
    x = torch.randn(16, 6)
    model(x)
    export_onnx(model, tmp_path / 'model.onnx', x)
    with torch.no_grad():
        model[2].input_quantizer.step *= 1.1
    assert not compare_onnx(model, tmp_path / 'model.onnx', x).explained


def test_what_cannot_be_exported_says_so(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Linear(6, 8))
    quantize_model(model, 4, 4, first_last_bits=4)
    x = torch.randn(2, 6)
    with pytest.warns(UserWarning), pytest.raises(
            ValueError, match='load a checkpoint of the quantised'):
        export_onnx(model, tmp_path / 'model.onnx', x)
    monkeypatch.setitem(__import__('sys').modules, 'onnxscript', None)
    with pytest.raises(ImportError, match='pip install "onnx>='):
        export_onnx(model, tmp_path / 'model.onnx', x)
