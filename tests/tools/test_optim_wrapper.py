"""Configs of the task libraries train with one word of the command line."""

import importlib.util
from pathlib import Path

import pytest

from .test_tools import ROOT, data, run  # noqa: F401

TEXT = """
_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
model = dict(backbone=dict(base_channels=4, stem_channels=4),
             head=dict(in_channels=32))
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=16),
            dict(type='PackInputs')]
train_dataloader = dict(num_workers=0, batch_size=90, dataset=dict(
    _delete_=True, type='CustomDataset', data_root='data/digits',
    data_prefix='val', pipeline=pipeline))
val_dataloader = val_cfg = val_evaluator = None
train_cfg = dict(max_epochs=6)  # until the losses differ by enough
default_hooks = dict(logger=dict(interval=1))
"""
LAZY = """
from mmengine.config import read_base
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.models import (CrossEntropyLoss, GlobalAveragePooling,
                               ImageClassifier, LinearClsHead, ResNet_CIFAR)
from torch.optim import SGD

default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)
model = dict(
    type=ImageClassifier,
    backbone=dict(type=ResNet_CIFAR, depth=18, base_channels=4,
                  stem_channels=4, num_stages=4, out_indices=(3, )),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=32,
              loss=dict(type=CrossEntropyLoss)))
train_dataloader = dict(
    batch_size=90, num_workers=0, collate_fn=dict(type=default_collate),
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(type=CustomDataset, data_root='data/digits',
                 data_prefix='val', pipeline=[
                     dict(type=LoadImageFromFile), dict(type=PackInputs)]))
train_cfg = dict(by_epoch=True, max_epochs=6)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
"""
SIMCC = ('body_2d_keypoint/simcc/coco/'
         'simcc_res50_8xb64-210e_coco-256x192.py')
POSE = """
_base_ = 'mmpose::{simcc}'
codec = dict(type='SimCCLabel', input_size=(64, 64), sigma=2.,
             simcc_split_ratio=2.)
model = dict(
    backbone=dict(depth=18, init_cfg=None),
    head=dict(in_channels=512, out_channels=14, input_size=(64, 64),
              in_featuremap_size=(2, 2), decoder=codec))
train_dataloader = dict(num_workers=0, batch_size=6,
                        persistent_workers=False, dataset=dict(
    data_root='data/figures', ann_file='annotations/figures_train.json',
    data_prefix=dict(img='train/'), metainfo=dict(
        from_file='{root}/configs/_base_/datasets/figures_metainfo.py'),
    pipeline=[
        dict(type='LoadImage'), dict(type='GetBBoxCenterScale'),
        dict(type='TopdownAffine', input_size=(64, 64)),
        dict(type='GenerateTarget', encoder=codec),
        dict(type='PackPoseInputs')]))
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
train_cfg = dict(max_epochs=6)  # until the losses differ by enough
default_hooks = dict(logger=dict(interval=1),
                     checkpoint=dict(save_best=None))
"""


@pytest.mark.parametrize('text', [TEXT, LAZY, POSE],
                         ids=['mmpretrain', 'lazy', 'mmpose'])
@pytest.mark.slow
def test_an_installed_config_trains_with_one_word(
        text, data, tmp_path):  # noqa: F811
    config = tmp_path / 'config.py'
    config.write_text(
        text.replace('{root}', str(ROOT)).replace('{simcc}', SIMCC))
    run(ROOT / 'tools' / 'train.py', config, '--optim-wrapper', 'AUSAM',
        '--work-dir', tmp_path / 'work', '--cfg-options',
        'optim_wrapper.ramp_epochs=1', cwd=data)
    logs = list(Path(tmp_path).rglob('scalars.json'))
    assert '"ausam/ratio_used": 0.5' in logs[0].read_text()


@pytest.mark.parametrize('package,text', [
    ('mmpretrain', TEXT), ('mmpretrain', LAZY), ('mmpose', POSE)],
    ids=['mmpretrain', 'lazy', 'mmpose'])
@pytest.mark.slow
def test_the_libraries_own_tool_trains_with_two_settings(
        package, text, data, tmp_path):  # noqa: F811
    """Two settings in the config; the tool is the package's, untouched."""
    config = tmp_path / 'config.py'
    settings = """
custom_imports = dict(imports=['ausam_mm'], allow_failed_imports=False)
optim_wrapper = dict(type='AUSAM', rho=0.05, ramp_epochs=1,
                     optimizer=dict(type='SGD', lr=0.1))
"""
    if text is LAZY:  # which names classes, and imports them so
        settings = ('from ausam_mm import AUSAM\n' + settings.replace(
            "'AUSAM'", 'AUSAM').replace("'SGD'", 'SGD').split('\n', 2)[2])
    config.write_text(text.replace('{root}', str(ROOT)).replace(
        '{simcc}', SIMCC) + settings)
    spec = importlib.util.find_spec(package)
    tool = Path(spec.origin).parent / '.mim' / 'tools' / 'train.py'
    # Its way to say that there are no workers to keep.
    flags = ['--no-persistent-workers'] if package == 'mmpretrain' else []
    run(tool, config, '--work-dir', tmp_path / 'work', *flags, cwd=data)
    logs = list((tmp_path / 'work').rglob('scalars.json'))
    assert '"ausam/ratio_used": 0.5' in logs[0].read_text()


@pytest.mark.slow
def test_a_config_of_a_package_is_named_directly(data, tmp_path):  # noqa: F811
    options = [
        'train_dataloader.dataset.data_root=data/digits',
        'train_dataloader.dataset.metainfo.classes=' + ','.join('abcdefghij'),
        'train_dataloader.dataset.pipeline.1.scale=16',
        'train_dataloader.num_workers=0', 'train_dataloader.batch_size=721',
        'train_dataloader.persistent_workers=False',
        'model.backbone.base_channels=4', 'model.backbone.stem_channels=4',
        'model.head.in_channels=32', 'train_cfg.max_epochs=4',
        'default_hooks.logger.interval=1', 'optim_wrapper.ramp_epochs=1']
    run(ROOT / 'tools' / 'train.py',
        'mmpretrain::resnet/resnet18_8xb32_in1k.py', '--optim-wrapper',
        'AUSAM', '--no-validate', '--cfg-options', *options, cwd=data)
    folder = data / 'work_dirs' / 'resnet18_8xb32_in1k_ausam'
    logs = list(folder.rglob('scalars.json'))
    # 360 of 721
    assert '"ausam/ratio_used": 0.499' in logs[0].read_text()
