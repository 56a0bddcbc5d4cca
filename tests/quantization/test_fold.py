"""A model computes the same with BatchNorm folded away."""

import pytest
import torch
from torch import nn

from ausam_mm.quantization import (
    fold_batchnorm,
    quantize_model,
    unfolded,
)

from .models import NAMES, float_model, images, layers_of, lsq_model


def norms(model):
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def outputs(model, *args):
    with torch.no_grad():
        result = model.eval()(*args)
    result = result if isinstance(result, (list, tuple)) else [result]
    return torch.cat([part.flatten() for part in result])


@pytest.mark.parametrize('name', NAMES)
def test_a_float_model_stays_equal(name):
    model, x = float_model(name).double(), torch.stack(images(4)).double()
    before = outputs(model, x, None)
    folded = fold_batchnorm(model, x[:1], None)
    assert norms(model) >= 20 and norms(folded) == 0
    torch.testing.assert_close(outputs(folded, x, None), before)
    assert torch.equal(outputs(model, x, None), before)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('per_channel', [False, True])
def test_a_quantized_model_stays_equal(name, per_channel):
    model = lsq_model(name, per_channel=per_channel).double()
    x = torch.stack(images(4)).double()
    model(x, None)
    before = outputs(model, x, None)
    folded = fold_batchnorm(model, x[:1], None)
    assert norms(model) >= 20 and norms(folded) == 0
    torch.testing.assert_close(outputs(folded, x, None), before)
    for layer in layers_of(folded).values():
        quantizer = layer.weight_quantizer
        if layer.bias is not None and isinstance(layer, nn.Conv2d):
            assert (quantizer.step > 0).all()


def net(*layers):
    torch.manual_seed(0)
    model = nn.Sequential(*layers).double()
    for module in model:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    return model


def test_negative_factors_turn_signs_where_they_can():
    model = net(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    quantize_model(model, 3, 3, first_last_bits=3)
    x = torch.randn(2, 3, 9, 9).double()
    with torch.no_grad():
        model[1].weight[0] = -1.
        model[1].weight[1] = 0.
        model[4].weight[0] = -1.
        model[3].weight[0, 0, 0, 0] = -100.  # the smallest integer
        model[0].weight.clamp_(min=-0.05)
        model(x)
    before = outputs(model, x)
    folded = fold_batchnorm(model, x)
    assert unfolded(folded) == ['4']
    torch.testing.assert_close(outputs(folded, x), before)


def test_weights_between_two_integers_keep_theirs():
    model = net(nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64))
    quantize_model(model, 8, 8)
    x = torch.randn(2, 3, 4, 4).double()
    model(x)
    with torch.no_grad():
        codes = torch.arange(192.).double().view(64, 3, 1, 1) % 40
        model[0].weight.copy_(model[0].weight_quantizer.step * (codes + 0.5))
    before = outputs(model, x)
    torch.testing.assert_close(outputs(fold_batchnorm(model, x), x), before)


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('quantized', [False, True])
def test_batchnorm_folds_into_linear_and_transposed_layers(groups, quantized):
    model = net(nn.ConvTranspose2d(4, 6, 3, groups=groups), nn.BatchNorm2d(6),
                nn.Flatten(), nn.Linear(6 * 49, 8), nn.BatchNorm1d(8))
    x = torch.randn(3, 4, 5, 5).double()
    if quantized:
        quantize_model(model)
    with torch.no_grad():
        model(x)
    before = outputs(model, x)
    folded = fold_batchnorm(model, x)
    assert unfolded(folded) == []
    torch.testing.assert_close(outputs(folded, x), before)


class Tangled(nn.Module):
    """Nothing here may be folded, whatever the names say."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.conv3, self.bn3 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.conv4, self.bn4 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.conv1(self.bn1(x).relu())  # norm first
        x = self.conv2(x)
        x = x + self.bn2(x)  # read twice
        x = self.bn3(self.conv3(self.conv3(x)))  # called twice
        x = self.conv4(x)
        return x, self.bn4(x)  # returned, too


def test_only_what_feeds_nothing_else_is_folded():
    model = Tangled()
    folded = fold_batchnorm(model, torch.randn(1, 3, 4, 4))
    assert unfolded(folded) == ['bn1', 'bn2', 'bn3', 'bn4']
