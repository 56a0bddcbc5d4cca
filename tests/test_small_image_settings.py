"""The published settings of small images, as the configs compute them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope
from torch.nn.functional import log_softmax

CONFIGS = Path(__file__).parents[1] / 'configs' / 'classification'
PLAIN = sorted(
    path for path in (
        *CONFIGS.glob('cifar10*/*_b256_*.py'),
        *CONFIGS.glob('tiny_imagenet/*_b128_*.py'))
    if not re.search('sam|batch-augment', path.stem))
DATA = ['cifar10/resnet18_b256_cifar10', 'cifar100/resnet18_b256_cifar100',
        'tiny_imagenet/resnet18_b128_tiny-imagenet']


def config_of(path):
    cfg = Config.fromfile(path, import_custom_modules=False)
    init_default_scope('mmpretrain')
    return cfg


def test_there_are_plain_configs_of_all_three_data_sets():
    assert len(PLAIN) == 4 + 4 + 3


@pytest.mark.parametrize('path', PLAIN, ids=lambda path: path.stem)
def test_the_target_is_0_9_and_the_others_share_0_1(path):
    cfg = config_of(path)
    classes = cfg.model.head.num_classes
    scores = torch.randn(8, classes, dtype=torch.double)
    labels = torch.arange(8)
    target = torch.full((8, classes), 0.1 / (classes - 1)).double()
    target[torch.arange(8), labels] = 0.9
    expected = -(target * log_softmax(scores, 1)).sum(1).mean()
    loss = MODELS.build(cfg.model.head.loss)(scores, labels)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert cfg.data_preprocessor.num_classes == classes


@pytest.mark.parametrize('name', DATA)
def test_cutout_fills_every_second_image_with_the_mean(name):
    cfg = config_of(CONFIGS / f'{name}.py')
    [cutout] = [each for each in cfg.train_dataloader.dataset.pipeline
                if each.type == 'Cutout']
    pipeline = Compose([cutout])
    np.random.seed(0)
    cut = [pipeline(dict(img=np.full((64, 64, 3), 255, 'uint8')))['img']
           for _ in range(400)]
    areas = [(img != 255).all(2).sum() for img in cut]
    assert max(areas) == 16 * 16
    assert 0.42 < np.mean(np.array(areas) > 0) < 0.58
    fill = next(img for img, area in zip(cut, areas) if area)
    fill = fill[(fill != 255).all(2)][0]
    if cfg.data_preprocessor.to_rgb:  # images are loaded as BGR
        fill = fill[::-1]
    assert np.abs(fill - np.array(cfg.data_preprocessor.mean)).max() <= 0.5


@pytest.mark.parametrize('name', DATA)
def test_no_residual_branch_starts_at_zero(name):
    cfg = config_of(CONFIGS / f'{name}.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    scales = [p for key, p in model.named_parameters()
              if p.ndim == 1 and key.endswith('weight')]
    assert len(scales) == 20
    assert all((p == 1).all() for p in scales)


def test_the_deviation_is_that_over_all_pixels():
    """Not the mean of the images' own, which is about 51."""
    for name, deviation in zip(DATA[:2], ((63, 62, 67), (63.0, 62.1, 66.7))):
        std = config_of(CONFIGS / f'{name}.py').data_preprocessor.std
        assert std == pytest.approx(deviation, abs=0.4)
