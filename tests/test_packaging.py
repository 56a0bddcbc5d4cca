"""The wheel: what is in it, what it asks for, and that it trains alone."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

CONFIG = """
custom_imports = dict(imports=['ausam_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4,
                  num_stages=4, out_indices=(3, ), style='pytorch'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=32))
train_dataloader = dict(
    batch_size=8, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='images', with_label=True,
                 pipeline=[dict(type='LoadImageFromFile'),
                           dict(type='PackInputs')]))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type='AUSAM', alpha=0.5,
                     optimizer=dict(type='SGD', lr=0.1))
"""


def run(*command, **kwargs):
    result = subprocess.run([sys.executable, *map(str, command)],
                            capture_output=True, text=True, **kwargs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    # From a copy: a stale build/ of the clone must not get into the wheel.
    out = tmp_path_factory.mktemp('wheel')
    source = out / 'source'
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(
            '.*', 'data', 'work_dirs', 'build', '*.egg-info'))
    run('-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-w', out,
        source)
    return next(out.glob('*.whl'))


def test_the_wheel_asks_for_nothing_and_carries_configs_and_tools(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(n for n in names if n.endswith('/METADATA'))
        message = Parser().parsestr(archive.read(metadata).decode())
    required = [line for line in message.get_all('Requires-Dist', [])
                if 'extra ==' not in line]
    assert required == []
    extras = {'analysis', 'classification', 'detection', 'docs', 'optional',
              'pose', 'runtime', 'segmentation'}
    assert set(message.get_all('Provides-Extra')) == extras
    assert 'pycocotools; extra == "pose"' in message.get_all('Requires-Dist')
    for distribution in ('mmengine', 'mmcv', 'mmpretrain', 'mmpose', 'mmseg',
                         'mmdet', 'onedl'):
        assert distribution not in str(message.get_all('Requires-Dist'))
    assert 'ausam_mm/.mim/tools/train.py' in names
    assert any(n.startswith('ausam_mm/.mim/configs/pose/') for n in names)
    assert 'ausam_mm/.mim/model-index.yml' in names
    assert 'ausam_mm/.mim/configs/pose/coco/metafile.yml' in names
    assert 'ausam_mm/tooling/runner.py' in names
    assert 'ausam_mm/py.typed' in names
    assert 'ausam_mm/xtcocotools/cocoeval.py' in names
    assert 'ausam_mm/report/templates/page.html' in names
    assert not any(word in n for word in ('tests', 'benchmarks')
                   for n in names)


def test_installing_it_changes_nothing_else(wheel):
    out = run('-m', 'pip', 'install', '--dry-run', '--no-index',
              '--force-reinstall', wheel)
    installed = [line for line in out.splitlines()
                 if line.startswith('Would install')]
    assert [line.split()[2:] for line in installed] == [['ausam_mm-0.1.0']] \
        or [line.split()[2:] for line in installed] == [['ausam-mm-0.1.0']]


@pytest.mark.slow
def test_the_wheel_alone_trains_from_elsewhere(wheel, tmp_path):
    target = tmp_path / 'installed'
    run('-m', 'pip', 'install', '--no-deps', '--no-index', '--target', target,
        wheel)
    rng = np.random.default_rng(0)
    for i in range(24):
        folder = tmp_path / 'images' / f'class_{i % 2}'
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(folder / f'{i}.png'), rng.integers(0, 255, (16, 16, 3)))
    (tmp_path / 'config.py').write_text(CONFIG)
    env = {**os.environ, 'PYTHONPATH': str(target)}
    where = run('-c', 'import ausam_mm; print(ausam_mm.__file__)', env=env,
                cwd=tmp_path)
    assert Path(where.split()[-1]).is_relative_to(target)
    run(target / 'ausam_mm' / '.mim' / 'tools' / 'train.py', 'config.py',
        '--work-dir', 'run', env=env, cwd=tmp_path)
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()
