"""The command-line tools on real, tiny trainings of both tasks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ausam_mm.tooling.runner import find_unnamed_checkpoint

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / 'configs/classification/digits/resnet18-c16_b64_digits.py'
POSE = ROOT / 'configs/pose/figures'
TRAININGS = [
    (PLAIN, 'AUSAM'), *(
        (POSE / f'{name}_res18-c16_b64_figures-64x64.py', wrapper)
        for name, wrapper in (('heatmap', 'SAM'), ('simcc', 'AUSAM')))]
AUSAM = ('--optim-wrapper', 'AUSAM')


def run(*command, cwd, ok=True):
    result = subprocess.run([sys.executable, '-W', 'ignore',
                             *map(str, command)], cwd=cwd,
                            capture_output=True, text=True)
    assert (result.returncode == 0) is ok, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    converters = ROOT / 'tools' / 'dataset_converters'
    run(converters / 'digits.py', cwd=folder)
    run(converters / 'figures.py', '--train', 12, '--val', 6, cwd=folder)
    assert 'there already' in run(converters / 'figures.py', cwd=folder)
    return folder


def test_figures_are_the_same_for_the_same_seed(data, tmp_path):
    run(ROOT / 'tools' / 'dataset_converters' / 'figures.py', '--train', 12,
        '--val', 6, cwd=tmp_path)
    for name in ('annotations/figures_val.json', 'train/00003.png'):
        path = Path('data') / 'figures' / name
        assert (tmp_path / path).read_bytes() == (data / path).read_bytes()
    content = json.loads(
        (tmp_path / 'data/figures/annotations/figures_train.json').read_text())
    for annotation in content['annotations']:
        seen = [v for v in annotation['keypoints'][2::3] if v]
        assert annotation['num_keypoints'] == len(seen)


@pytest.mark.parametrize(
    'config,wrapper', TRAININGS,
    ids=lambda value: getattr(value, 'stem', value))
@pytest.mark.slow
def test_configs_train_resume_and_test(config, wrapper, data, tmp_path):
    options = ['--optim-wrapper', wrapper, '--cfg-options',
               'default_hooks.logger.interval=1',
               'train_dataloader.batch_size=6']
    if 'digits' in config.stem:  # fewer images
        options += ['train_dataloader.dataset.data_prefix=val',
                    'train_dataloader.batch_size=90']
    train = ROOT / 'tools' / 'train.py'
    run(train, config, '--work-dir', tmp_path, '--no-validate', *options,
        'train_cfg.max_epochs=1', cwd=data)
    if 'digits' in config.stem:  # as if killed while it was written
        (tmp_path / 'last_checkpoint').write_text('')
    out = run(train, config, '--work-dir', tmp_path, '--resume', *options,
              'train_cfg.max_epochs=2', 'train_cfg.val_interval=2', cwd=data)
    assert 'resumed epoch: 1' in out
    scalars = ''.join(
        path.read_text() for path in tmp_path.glob('*/vis_data/scalars.json'))
    assert 'ausam/ratio_used' in scalars
    out = tmp_path / 'metrics.json'
    run(ROOT / 'tools' / 'test.py', config, tmp_path / 'epoch_2.pth',
        '--work-dir', tmp_path, '--out', out, '--out-item', 'metrics',
        '--show-dir', tmp_path / 'drawn', cwd=data)
    assert len(json.loads(out.read_text())) == 1
    drawn = [path for path in tmp_path.rglob('drawn/**/*') if path.is_file()]
    assert len(drawn) >= 6


@pytest.mark.slow
def test_fine_tuning_starts_from_a_float_model_and_resumes(data, tmp_path):
    train = ROOT / 'tools' / 'train.py'
    small = ('backbone.base_channels=4', 'backbone.stem_channels=4',
             'head.in_channels=32')
    options = ['train_dataloader.dataset.data_prefix=val',
               'train_dataloader.batch_size=71', 'val_cfg=None',
               'val_dataloader=None', 'val_evaluator=None']
    run(train, PLAIN, '--work-dir', tmp_path / 'float', '--cfg-options',
        'train_cfg.max_epochs=1', *options,
        *(f'model.{option}' for option in small), cwd=data)
    start = tmp_path / 'float' / 'epoch_1.pth'
    command = (
        train, ROOT / 'configs' / 'quantization' / 'digits' /
        'resnet18-c16-w4a4_b64_digits.py', *AUSAM, '--work-dir',
        tmp_path / 'w4a4', '--resume', '--cfg-options', f'load_from={start}',
        *options, *(f'model.architecture.{option}' for option in small))
    out = run(*command, 'train_cfg.max_epochs=1', cwd=data)
    assert f'Load checkpoint from {start}' in out
    assert 'resumed epoch' not in out
    out = run(*command, 'train_cfg.max_epochs=2', cwd=data)
    assert 'resumed epoch: 1' in out and str(start) not in out.split(
        'Load checkpoint from')[1].splitlines()[0]
    saved = torch.load(tmp_path / 'w4a4' / 'epoch_2.pth', weights_only=False)
    steps = [value for name, value in saved['state_dict'].items()
             if name.endswith('quantizer.step')]
    assert steps and all(value > 0 for value in steps)


@pytest.mark.slow
def test_amp_goes_to_the_base_which_wants_an_accelerator(data, tmp_path):
    out = run(ROOT / 'tools' / 'train.py', PLAIN, *AUSAM, '--amp',
              '--work-dir', tmp_path, cwd=data, ok=False)
    assert '``AmpOptimizerWrapper`` is only available training on gpu' in out


@pytest.mark.slow
def test_a_truncated_checkpoint_is_named(data, tmp_path):
    torch.save(dict(state_dict=torch.rand(1000)), tmp_path / 'whole.pth')
    content = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'iter_7.pth').write_bytes(content[:2000])
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_7.pth'))
    out = run(ROOT / 'tools' / 'train.py', PLAIN, *AUSAM, '--resume',
              '--work-dir', tmp_path, cwd=data, ok=False)
    assert 'iter_7.pth is truncated' in out and '--resume PATH' in out
    assert 'Traceback' not in out


def test_a_checkpoint_is_found_where_its_name_was_not_written(tmp_path):
    for at, name in enumerate(('iter_10.pth', 'iter_9.pth')):
        torch.save(dict(state_dict={}), tmp_path / name)
        os.utime(tmp_path / name, (at, at))
    # MMEngine was killed between opening the file and writing it.
    (tmp_path / 'last_checkpoint').write_text('')
    cfg = Config(dict(work_dir=str(tmp_path), resume=True, load_from=None))
    find_unnamed_checkpoint(cfg)
    assert cfg.load_from == str(tmp_path / 'iter_9.pth') and cfg.resume


def test_print_config_resolves_and_saves(tmp_path):
    config = ROOT / 'configs/classification/cifar10' / \
        'resnet18-c16_ausam_b128_cifar10-2000.py'
    out = run(ROOT / 'tools' / 'misc' / 'print_config.py', config,
              '--save-path', tmp_path / 'full.py', '--cfg-options',
              'optim_wrapper.alpha=0.25', cwd=tmp_path)
    assert 'alpha=0.25' in out and 'ResNet_CIFAR' in out
    assert Config.fromfile(tmp_path / 'full.py',
                           import_custom_modules=False
                           ).optim_wrapper.type == 'AUSAM'


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh',
                                    'slurm_train.sh', 'slurm_test.sh'])
def test_shell_scripts_parse(script):
    subprocess.run(['bash', '-n', ROOT / 'tools' / script], check=True)


# What each process that ends by itself says at its end: its threads.
THREADS = """
import atexit, glob
atexit.register(lambda: print('threads at the end:', *(
    open(path).read().strip() for path in glob.glob('/proc/self/task/*/comm')
)))
"""


def run_on_two_nodes(script, *arguments, cwd):
    """Runs a script as two machines would; returns what each printed.

    An agent of torchrun may wait for the other's farewell for five minutes
    after its own training is over: it is not waited for.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    python = Path(sys.executable).parent
    (cwd / 'sitecustomize.py').write_text(THREADS)
    outputs = [cwd / f'{script}-{rank}.txt' for rank in range(2)]
    nodes = []
    for rank, path in enumerate(outputs):
        env = dict(os.environ, NNODES='2', NODE_RANK=str(rank),
                   PORT=str(port), PATH=f'{python}:{os.environ["PATH"]}',
                   PYTHONPATH=str(cwd))
        with open(path, 'w') as file:
            nodes.append(subprocess.Popen(
                ['bash', ROOT / 'tools' / script, *map(str, arguments)],
                cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True))
    for seconds in (240, 20):  # for one of them, and then for the other
        end = time.monotonic() + seconds
        left = [node for node in nodes if node.poll() is None]
        while time.monotonic() < end and left and all(
                node.poll() is None for node in left):
            time.sleep(0.2)
    for node in nodes:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
    texts = [path.read_text() for path in outputs]
    codes = sorted(node.returncode for node in nodes)
    assert codes in ([0, 0], [-signal.SIGKILL, 0]), texts
    return texts


@pytest.mark.slow
def test_two_nodes_train_and_test(data, tmp_path):
    """What several machines run, on one: a torchrun for each of them."""
    options = [*AUSAM, '--work-dir', tmp_path, '--cfg-options',
               'train_dataloader.dataset.data_prefix=val',
               'train_cfg.max_epochs=2', 'default_hooks.logger.interval=1',
               'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']
    trained = run_on_two_nodes('dist_train.sh', PLAIN, 1, *options, cwd=data)
    tested = run_on_two_nodes(
        'dist_test.sh', PLAIN, tmp_path / 'epoch_2.pth', 1,
        '--work-dir', tmp_path, cwd=data)
    assert 'accuracy/top1' in ''.join(tested)
    # None of gloo's threads, which may abort while Python is taken down.
    for text in trained + tested:
        assert 'threads at the end: python' in text
        assert 'gloo' not in text, text
    checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    table = checkpoint['optimizer']['ausam_mm']['history']
    assert len(table['keys']) == 355  # every sample, seen by either
