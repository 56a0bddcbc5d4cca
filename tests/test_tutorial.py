"""The tutorial's method does what its page says, by the page's command."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS

from .toy import batch, build, sample_losses, wrap

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / 'docs' / 'tutorial'
RHO = 0.3


@pytest.fixture
def random_sam(monkeypatch):
    """The tutorial's module, whose method is registered in a test only."""
    monkeypatch.syspath_prepend(str(TUTORIAL))
    import random_sam
    yield random_sam
    OPTIM_WRAPPERS.module_dict.pop('MyRandomSAM')
    del sys.modules['random_sam']


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def perturbations(model, wrapper, steps=1):
    """How far the weights are from w in each step's forward pass."""
    found = []

    def forward(*_):
        found.append(weights(model) - before)

    with model.register_forward_pre_hook(forward):
        for step in range(steps):
            before = weights(model)
            model.train_step(batch(step), wrapper)
    return found


def random_sam_of(model, seed=0, **options):
    return wrap(model, type='MyRandomSAM', rho=RHO, seed=seed, **options)


def test_a_perturbation_has_the_norm_rho_and_another_direction_each_step(
        random_sam):
    model = build()
    wrapper = random_sam_of(model, accumulative_counts=2)
    found = perturbations(model, wrapper, steps=6)
    assert wrapper.samples_backpropagated == wrapper.samples_loaded == 6 * 16
    torch.testing.assert_close(
        torch.stack(found).norm(dim=1), torch.full((6, ), RHO).double())
    directions = torch.stack(found) / RHO
    cosines = directions @ directions.T - torch.eye(6)
    assert cosines.abs().max() < 0.4  # of 163 dimensions


def test_a_step_is_that_of_the_optimizer_with_the_gradient_at_w_plus_eps(
        random_sam):
    model, other = build(), build()
    eps, = perturbations(model, random_sam_of(model, seed=3))
    optimizer = wrap(other, type='OptimWrapper').optimizer
    at_w = weights(other)
    torch.nn.utils.vector_to_parameters(at_w + eps, other.parameters())
    sample_losses(other, batch(0)).mean().backward()
    torch.nn.utils.vector_to_parameters(at_w, other.parameters())
    optimizer.step()
    torch.testing.assert_close(weights(model), weights(other))


def test_the_tutorial_s_method_is_the_package_s(random_sam):
    models = []
    for name in ('MyRandomSAM', 'RandomSAM'):
        models.append(build())
        wrapper = wrap(models[-1], type=name, rho=RHO, seed=0)
        for step in range(4):
            models[-1].train_step(batch(step), wrapper)
    assert torch.equal(*map(weights, models))


def test_the_weights_are_restored_bit_for_bit_also_after_an_error(random_sam):
    model = build()
    wrapper = random_sam_of(model, lr=0.)
    before = weights(model)
    perturbations(model, wrapper, steps=3)
    assert torch.equal(weights(model), before)
    with pytest.raises(AttributeError):
        model.train_step(dict(inputs=None), wrapper)
    assert torch.equal(weights(model), before)


def test_frozen_parameters_stay_and_the_others_have_the_whole_norm(
        random_sam):
    model = build()
    model.net[0].requires_grad_(False)
    eps, = perturbations(model, random_sam_of(model))
    frozen = sum(p.numel() for p in model.net[0].parameters())
    assert not eps[:frozen].any()
    torch.testing.assert_close(eps.norm().item(), RHO)


def test_processes_have_directions_of_their_own_that_their_seed_repeats(
        random_sam, monkeypatch):
    def direction(rank, seed):
        monkeypatch.setattr(random_sam, 'get_rank', lambda: rank)
        model = build()
        return perturbations(model, random_sam_of(model, seed=seed))[0]

    assert torch.equal(direction(0, 0), direction(0, 0))
    for rank, seed in ((1, 0), (0, 1)):
        assert not torch.allclose(direction(0, 0), direction(rank, seed))


def test_a_checkpoint_goes_on_with_its_directions_whatever_the_seed(
        random_sam):
    model = build()
    wrapper = random_sam_of(model, seed=0)
    first = perturbations(model, wrapper)
    saved = wrapper.state_dict()
    expected = perturbations(model, wrapper)
    other = build()
    resumed = random_sam_of(other, seed=1)
    resumed.load_state_dict(saved)
    found = perturbations(other, resumed)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found[0], first[0])


def test_the_file_has_at_most_40_lines_without_docstrings():
    source = (TUTORIAL / 'random_sam.py').read_text(encoding='utf-8')
    docs = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) \
                and ast.get_docstring(node):
            first = node.body[0]
            docs.update(range(first.lineno, first.end_lineno + 1))
    lines = [line for number, line in enumerate(source.splitlines(), 1)
             if line.strip() and number not in docs]
    assert 20 < len(lines) <= 40


@pytest.fixture
def train(tmp_path):
    """The page's commands, in a folder that has the repository's in it."""
    for name in ('configs', 'docs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    page = (TUTORIAL / 'README.md').read_text(encoding='utf-8')
    commands = re.search('```bash\n(.*?)```', page, re.DOTALL)[1].splitlines()
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])

    def call(command, *more):
        if command.startswith('PYTHONPATH='):
            setting, command = command.split(' ', 1)
            path = f'{setting.split("=")[1]}{os.pathsep}{paths}'
        else:
            path = paths
        python, *arguments = shlex.split(command)
        assert python == 'python'
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', *arguments, *more],
            cwd=tmp_path, capture_output=True, text=True,
            env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1'))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    convert, train = commands
    call(convert)
    return lambda *more: call(train, *more)


@pytest.mark.slow
def test_the_page_s_command_trains_and_a_resumed_training_ends_the_same(
        train, tmp_path):
    options = (
        '--no-validate', '--cfg-options', 'train_cfg.max_epochs=2',
        'train_dataloader.dataset.data_prefix=val',
        'train_dataloader.batch_size=90',
        'train_dataloader.dataset.pipeline.2.padding=0',  # nothing random
        'default_hooks.checkpoint.max_keep_ckpts=2',
        'default_hooks.logger.interval=1', 'model.backbone.base_channels=4',
        'model.backbone.stem_channels=4', 'model.head.in_channels=32')
    out = train('--work-dir', 'straight', *options)
    assert 'MyRandomSAM trains for 2 epochs with rho=' in out
    assert 'ausam/sgd_steps: 8  loss: ' in out
    out = train('--work-dir', 'resumed', '--resume', 'straight/epoch_1.pth',
                *options)
    assert 'resumed epoch: 1' in out
    saved = [torch.load(tmp_path / folder / 'epoch_2.pth', weights_only=False)
             for folder in ('straight', 'resumed')]
    steps = [checkpoint['optimizer']['ausam_mm'] for checkpoint in saved]
    assert steps[0] == steps[1]
    assert steps[0]['num_steps'] == 8 and isinstance(steps[0]['seed'], int)
    states = [checkpoint['state_dict'] for checkpoint in saved]
    assert all(torch.equal(states[0][name], states[1][name])
               for name in states[0])
