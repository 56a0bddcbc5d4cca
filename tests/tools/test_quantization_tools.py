"""The commands for quantized models: export, costs, histograms."""

import json

import pytest
import torch
from mmengine.config import Config
from torch import nn

from ausam_mm.quantization import Agreement, quantize_model
from ausam_mm.tooling.made_up_data import make_inputs
from ausam_mm.tooling.settings import build_model, scope_of
from tools.analysis_tools import model_cost
from tools.analysis_tools import quantization_histograms as histograms
from tools.deployment import export_onnx as export_command

from .test_tools import ROOT


@pytest.fixture
def quantized(monkeypatch, tmp_path):
    """A config and a checkpoint of a quantized model, and the model."""
    monkeypatch.setenv('LOCAL_RANK', '0')  # set by the tool otherwise
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(
        ROOT / 'configs/classification/digits/resnet18-c16_b64_digits.py')
    architecture = cfg.pop('model')
    architecture.backbone.update(
        base_channels=4, stem_channels=4, num_stages=2, strides=(1, 2),
        dilations=(1, 1), out_indices=(1, ))
    architecture.head.in_channels = 8
    cfg.model = dict(type='LSQModel', architecture=architecture)
    cfg.train_dataloader.batch_size = 4
    cfg.dump('config.py')
    with scope_of(cfg):
        torch.manual_seed(0)
        model = build_model(cfg).train()
        for _ in range(20):  # BatchNorm's statistics
            model(torch.randn(8, 3, 16, 16), None)
    with torch.no_grad():  # some beyond the smallest level
        model.backbone.layer1[0].conv1.weight.mul_(4)
    torch.save(dict(state_dict=model.state_dict()), 'model.pth')
    return cfg, model


def test_costs_of_a_model_computed_by_hand():
    class Net(nn.Module):

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
            self.norm = nn.BatchNorm2d(6)
            self.up = nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False)
            self.fc = nn.Linear(4, 5)

        def forward(self, x):
            x = self.up(self.norm(self.conv(x))).flatten(2)
            return self.fc(x @ x.transpose(1, 2))

    model = Net()
    quantize_model(model, 2, 3, skip=['fc'], first_last_bits=8,
                   per_channel=True)
    x = torch.randn(1, 4, 5, 7)
    model(x)
    result = model_cost.measure(model, x)
    conv, up, fc, rest = result['rows']
    # 6x2x3x3 weights, 6 biases, 6 + 1 step sizes; 35 positions.
    assert conv == dict(
        name='conv', parameters=121, w_bits=8, a_bits=8,
        bits=108 * 8 + 13 * 32, macs=108 * 35, bops=108 * 35 * 64)
    assert up == dict(name='up', parameters=96 + 4 + 1, w_bits=2, a_bits=3,
                      bits=96 * 2 + 5 * 32, macs=96 * 35, bops=96 * 35 * 6)
    assert fc == dict(name='fc', parameters=25, w_bits=32, a_bits=32,
                      bits=800, macs=20 * 4, bops=80 * 1024)
    # BatchNorm, and a product of 4x140 by 140x4.
    assert (rest['parameters'], rest['macs']) == (12, 4 * 140 * 4)
    assert result['total']['bits'] == sum(
        row['bits'] for row in result['rows'])
    assert result['float'] == dict(
        parameters=114 + 96 + 25 + 12, bits=247 * 32,
        macs=3780 + 3360 + 80 + 2240, bops=9460 * 1024)


def test_the_cost_command(quantized, capsys):
    model_cost.main(['config.py', '--out', 'cost.json'])
    printed = capsys.readouterr().out
    with open('cost.json') as file:
        result = json.load(file)
    assert result['input'] == [3, 16, 16]
    row = next(row for row in result['rows'] if row['name'] == 'head.fc')
    assert (row['w_bits'], row['macs'], row['bops']) == (8, 80, 80 * 64)
    ratio = result['float']['bits'] / result['total']['bits']
    assert f'1/{ratio:.1f} of float' in printed
    assert all(len(line) <= 100 for line in printed.splitlines()
               if 'INFO' not in line)
    model_cost.main(['config.py', '--shape', '32', '32', '--out', 'cost.md'])
    with open('cost.md') as file:
        assert '| head.fc |' in file.read()


def test_histograms_equal_a_computation_in_numpy(quantized, capsys):
    cfg, model = quantized
    histograms.main([
        'config.py', 'model.pth', '--data', 'made-up', '--batches', '2',
        '--layers', 'backbone.layer1.0.conv1', 'head.fc', '--json', 'h.json',
        '--out', 'h.png'])
    printed = capsys.readouterr().out
    with open('h.png', 'rb') as file:
        assert file.read(4) == b'\x89PNG'
    with open('h.json') as file:
        weight, activation, *others = json.load(file)['rows']
    assert [row['tensor'] for row in others] == ['weight', 'input']
    model.eval()
    layer = model.backbone.layer1[0].conv1
    inputs = []
    layer.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    with scope_of(cfg), torch.no_grad():
        for seed in range(2):
            model(make_inputs(cfg, model, 4, 256, seed), None)
    for row, x, quantizer in (
            (weight, layer.weight.detach(), layer.weight_quantizer),
            (activation, torch.cat(inputs), layer.input_quantizer)):
        ratio = (x / quantizer.step.detach()).double()
        low, high = row['bounds']
        outside = float(((ratio < low) | (ratio > high)).double().mean())
        used = ratio.round().clamp(low, high).unique().numel()
        assert row['clipped'] == pytest.approx(outside, abs=1e-9)
        assert row['used'] == used and sum(row['levels']) == pytest.approx(1)
        assert sum(row['shares']) == pytest.approx(1)
        assert f'{outside:.2%}' in printed and f'{used} of 16' in printed
    assert weight['clipped'] > 0


def test_histograms_count_what_is_clipped_and_weights_once():
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    quantize_model(model, 2, 2, first_last_bits=2)
    model[0].weight_quantizer.initialize_with(torch.tensor(1.), True)
    model[0].input_quantizer.initialize_with(torch.tensor(1.), False)
    model[0].weight.data = torch.tensor([[-3., 0.6]])
    x = torch.tensor([[0., 3.], [3.2, -9.]])
    weight, inputs = histograms.measure(model, ['0'], [x, x])
    assert (weight['clipped'], weight['levels']) == (0.5, [0.5, 0, 0, 0.5])
    assert (inputs['clipped'], inputs['levels']) == (0.5, [0.5, 0, 0, 0.5])
    assert inputs['used'] == 2


@pytest.mark.parametrize('command, words', [
    (['--layers', 'head.x'], 'no quantized layer'),
    (['--cfg-options', 'model.skip=["backbone","head"]'],
     'no quantized layer')])
def test_histograms_refuse_models_without_step_sizes(
        quantized, command, words):
    with pytest.raises(SystemExit, match=words):
        histograms.main(['config.py', 'model.pth', *command])


@pytest.mark.slow
def test_the_export_command(quantized, capsys, monkeypatch):
    export_command.main(['config.py', 'model.pth', '--fold-bn', '--batch',
                         '2'])
    printed = capsys.readouterr().out
    assert 'Written to model.onnx: 11 quantized layers, input 3x16x16' in \
        printed
    assert '2 images' in printed and 'equal predictions 100.0%' in printed
    with pytest.raises(SystemExit, match='There is no checkpoint'):
        export_command.main(['config.py', 'missing.pth'])
    monkeypatch.setattr(export_command, 'export_onnx',
                        lambda *args, **options: None)
    monkeypatch.setattr(export_command, 'compare_onnx',
                        lambda *args: Agreement(1., 1., 0., 1., 0.))
    with pytest.raises(SystemExit, match='does not compute what the model'):
        export_command.main(['config.py', 'model.pth', '--batch', '2'])
