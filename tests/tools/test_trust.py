"""No tool runs what a checkpoint holds, unless it is told to."""

import contextlib
import runpy
import subprocess
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import DATASETS, MODELS
from mmengine.utils import digit_version

from ausam_mm import checkpoint_loading
from tools import study

from ..runs import Samples
from ..test_checkpoints import Predictor, save_payload
from .test_study import STUDY
from .test_tools import PLAIN, ROOT, data, run  # noqa: F401

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'),
    reason='nothing is loaded without trust before PyTorch 2.6')
TOOLS = ROOT / 'tools'
CONFIG = """
experiment_name = 'trust_{number}'
model = dict(type='Predictor')
train_dataloader = test_dataloader = dict(
    batch_size=8, num_workers=0, dataset=dict(type='Samples'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'))
train_cfg = dict(by_epoch=True, max_epochs=1)
test_cfg = dict()
test_evaluator = dict(type='Score')
optim_wrapper = dict(type='AUSAM', optimizer=dict(type='SGD', lr=0.1))
"""
# What is added to the config, and a command; each names the file {bad}.
WAYS = {
    'test': ('', 'test.py CONFIG {bad}'),
    'resume': ('', 'train.py CONFIG --resume {bad}'),
    'automatic-resume': ('', 'train.py CONFIG --resume'),
    'resume-of-the-config': (
        'load_from = {bad!r}\nresume = True', 'train.py CONFIG'),
    'load-from-of-the-config': ('load_from = {bad!r}', 'train.py CONFIG'),
    'load-from-as-an-option': (
        '', 'train.py CONFIG --cfg-options load_from={bad}'),
    'automatic-resume-that-starts': (
        'load_from = {bad!r}', 'train.py CONFIG --resume --work-dir new'),
    'pretrained': (
        "model['init_cfg'] = dict(type='Pretrained', checkpoint={bad!r})",
        'train.py CONFIG'),
    'pretrained-part': (
        "model['init_cfg'] = dict("
        "type='Pretrained', prefix='net', checkpoint={bad!r})",
        'train.py CONFIG'),
    'export': ('', 'deployment/export_onnx.py CONFIG {bad}'),
    'histograms': (
        '', 'analysis_tools/quantization_histograms.py CONFIG {bad}'),
}
_numbers = count()


@pytest.mark.parametrize('way', WAYS)
def test_a_tool_runs_a_checkpoint_only_if_it_is_trusted(
        way, tmp_path, monkeypatch):
    for registry, kind in ((MODELS, Predictor), (DATASETS, Samples)):
        monkeypatch.setitem(registry.module_dict, kind.__name__, kind)
    monkeypatch.setenv('LOCAL_RANK', '0')  # set by the tools otherwise
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / 'marker'
    (tmp_path / 'work_dirs' / 'config').mkdir(parents=True)
    bad = save_payload(
        tmp_path / 'work_dirs' / 'config' / 'epoch_1.pth', marker,
        state_dict=Predictor().state_dict(), message_hub={},
        meta=dict(epoch=1, iter=3, experiment_name='other', seed=0))
    bad.with_name('last_checkpoint').write_text(str(bad))
    extra, command = WAYS[way]
    command = command.format(bad=bad).split()

    def start(*flags):
        (tmp_path / 'config.py').write_text(
            CONFIG.format(number=next(_numbers))
            + extra.format(bad=str(bad)))
        monkeypatch.setattr('sys.argv', [
            'config.py' if word == 'CONFIG' else word for word in command
        ] + list(flags))
        runpy.run_path(str(TOOLS / command[0]), run_name='__main__')

    with pytest.raises(SystemExit) as caught:
        start()
    assert str(caught.value) == (
        f'{bad} was not loaded, because it could run code: it asks for '
        f'{open.__module__}.open. If you trust where it comes from, pass '
        '--trust-checkpoint.')
    assert not marker.exists()
    trains = 'train.py' in command and 'resume' not in way
    # Resuming wants an optimizer, and the other tools a model of images.
    with contextlib.nullcontext() if trains or way == 'test' else \
            contextlib.suppress(Exception, SystemExit):
        start('--trust-checkpoint')
    assert marker.exists()


@pytest.mark.parametrize('flags', [[], ['--trust-checkpoint']])
def test_a_study_trusts_as_it_is_told(flags, tmp_path, monkeypatch):
    commands = []

    def refuse(command, **kwargs):
        commands.append(command)
        return SimpleNamespace(poll=lambda: 1, returncode=1)

    (tmp_path / 'some.py').write_text(STUDY)
    monkeypatch.setattr(subprocess, 'Popen', refuse)
    monkeypatch.setattr('sys.argv', [
        'study.py', str(tmp_path / 'some.py'), '--only', 'SAM',
        '--seeds', '0', '--work-dir', str(tmp_path), *flags])
    with pytest.raises(SystemExit, match='the whole log is'):
        study.main()
    (command, ) = commands
    assert [word for word in command if '--trust' in word] == flags


@pytest.mark.slow
def test_a_trusted_checkpoint_resumes_in_a_process(data, tmp_path):  # noqa: F811
    marker = tmp_path / 'marker'
    options = ['train_dataloader.dataset.data_prefix=val',
               'train_dataloader.batch_size=71',
               'model.backbone.base_channels=4',
               'model.backbone.stem_channels=4', 'model.head.in_channels=32']

    def train(epochs, *arguments, **kwargs):
        return run(TOOLS / 'train.py', PLAIN, '--optim-wrapper', 'AUSAM',
                   '--work-dir', tmp_path, '--no-validate', *arguments,
                   '--cfg-options', *options, f'train_cfg.max_epochs={epochs}',
                   cwd=data, **kwargs)

    train(1)
    path = tmp_path / 'epoch_1.pth'
    with checkpoint_loading():
        save_payload(path, marker, **torch.load(path))
    for out in (train(2, '--resume', ok=False),
                run(TOOLS / 'test.py', PLAIN, path, '--cfg-options',
                    *options[2:], cwd=data, ok=False)):
        assert f'{path} was not loaded' in out and 'Traceback' not in out
        assert 'Falling back' not in out  # which MMEngine says and does
    assert not marker.exists()
    assert 'resumed epoch: 1' in train(2, '--resume', '--trust-checkpoint')
    assert marker.exists()
    with checkpoint_loading():  # what was trusted is not kept
        assert torch.load(tmp_path / 'epoch_2.pth')['meta']['epoch'] == 2
