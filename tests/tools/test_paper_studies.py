"""The paper's tables in small, on made-up images."""

import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from ausam_mm.tooling.studies import read_study

from .test_converters import CONVERTERS, lspet, zip_of
from .test_tools import ROOT, run

TOOL = ROOT / 'tools' / 'study.py'
TABLES = sorted(path.stem for path in ROOT.glob('studies/paper/[!_]*.py'))


def write_classes(root, number, size, images):
    """A folder of each class with images whose brightness tells the class."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for label in range(number):
            folder = root / split / f'{label:02}'
            folder.mkdir(parents=True)
            for i in range(images):
                image = rng.integers(0, 30, (size, size, 3)) + 10 * label
                cv2.imwrite(str(folder / f'{i}.png'), image.astype('uint8'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Made-up data, and a copy of the studies, which write beside them."""
    folder = tmp_path_factory.mktemp('paper')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    shutil.copytree(ROOT / 'studies' / 'paper', folder / 'studies' / 'paper',
                    ignore=shutil.ignore_patterns('results'))
    write_classes(folder / 'data' / 'cifar10_2000', 10, 32, 3)
    write_classes(folder / 'data' / 'tiny_imagenet', 20, 64, 2)
    zip_of(folder / 'lspet_dataset.zip', lspet(12, hidden=False)[0])
    run(CONVERTERS / 'lspet.py', 'lspet_dataset.zip', cwd=folder)
    return folder


def table(folder, name):
    return read_study(folder / 'studies' / 'paper' / f'{name}.py').scaled(
        'tiny')


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in TABLES
                                  if name != 'cifar100'])
def test_a_network_of_each_table_trains(folder, name):
    setting, most = ('AUSAM (0.5)', 5 / 4) if name != 'pruning_cifar10' else (
        'AUSAM (0.5), InfoBatch', 3 / 2)  # whose later epochs are shorter
    run(TOOL, f'studies/paper/{name}.py', '--scale', 'tiny', '--only',
        setting, cwd=folder)
    study = table(folder, name)
    result, = filter(None, map(study.result_of, study.runs()))
    # All samples twice in the first of four epochs.
    assert result['samples_loaded'] < result['samples_backpropagated'] \
        <= most * result['samples_loaded']


@pytest.mark.slow
def test_a_table_that_is_killed_twice_is_whole_in_the_end(folder):
    command = [sys.executable, '-W', 'ignore', str(TOOL),
               'studies/paper/cifar100.py', '--scale', 'tiny']
    runs = folder / 'studies/paper/results/cifar100/tiny/runs'
    env = dict(os.environ, CUDA_VISIBLE_DEVICES='')
    for finished in (1, 3):
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=subprocess.DEVNULL,
            start_new_session=True)
        while len([*runs.glob('*.json')]) < finished:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    out = run(*command[3:], cwd=folder)
    assert '6 of 6 runs are finished' in out and 'AUSAM (0.6) minus SAM' in out
    study = table(folder, 'cifar100')
    costs = {one.setting: study.result_of(one)['samples_backpropagated']
             for one in study.runs() if one.setting != 'SGD'}
    # 30 images in a batch; all of them twice in the first of four epochs.
    assert costs == {
        'SAM': 8 * 30, 'AUSAM (0.6)': 60 + 3 * 36,
        'AUSAM (0.5)': 60 + 3 * 30, 'AUSAM (0.25, 0.75)': 60 + 3 * (7 + 22),
        'uniform (0.5)': 60 + 3 * 30}
