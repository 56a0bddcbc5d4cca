"""Examples of docstrings run as they stand, and what they configure works."""

import doctest
import importlib
import pkgutil
from itertools import count

import pytest
import torch
from mmengine.registry import (
    MODELS,
    OPTIM_WRAPPERS,
    RUNNERS,
    STRATEGIES,
    TRANSFORMS,
    DefaultScope,
)
from mmengine.runner import Runner

import ausam_mm
from ausam_mm.losses import rules

from .runs import Samples
from .toy import build

MODULES = [ausam_mm, *(
    importlib.import_module(module.name) for module in
    pkgutil.walk_packages(ausam_mm.__path__, f'{ausam_mm.__name__}.'))]
EXAMPLES = [
    example for module in MODULES
    for example in doctest.DocTestFinder().find(module) if example.examples]
WRAPPERS = {
    name: kind for name, kind in OPTIM_WRAPPERS.module_dict.items()
    if kind.__module__.startswith('ausam_mm.')}
# Settings of a training, which takes them all, and what checks the others.
OF_A_TRAINING = (
    'optim_wrapper', 'train_dataloader', 'train_cfg', 'custom_hooks')
_names = count()


def train(folder, optim_wrapper=None, train_dataloader=None, train_cfg=None,
          custom_hooks=None):
    """Two epochs, or iterations, of a small model with these settings."""
    model = build()
    before = [p.detach().clone() for p in model.parameters()]
    train_cfg = dict(train_cfg or dict(by_epoch=True, max_epochs=2))
    train_cfg.update({
        key: 2 for key in ('max_epochs', 'max_iters') if key in train_cfg})
    runner = Runner(
        model, str(folder), train_cfg=train_cfg, custom_hooks=custom_hooks,
        train_dataloader=dict(
            dict(batch_size=8, num_workers=0, dataset=Samples(),
                 sampler=dict(type='DefaultSampler', shuffle=True),
                 collate_fn=dict(type='pseudo_collate')),
            **(train_dataloader or {})),
        optim_wrapper=optim_wrapper or dict(
            optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=None), log_level='ERROR',
        experiment_name=f'example_{next(_names)}', randomness=dict(seed=0))
    runner.train()
    for p, old in zip(model.parameters(), before):
        assert p.isfinite().all() and not torch.equal(p, old)


def build_model(cfg):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert list(MODELS.build(cfg).parameters())


def preprocess(cfg):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        batch = MODELS.build(cfg)(dict(inputs=images), training=True)
    assert batch['inputs'].is_floating_point()


def build_packing(cfg):
    scope = 'mmpose' if 'Pose' in cfg['type'] else 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        assert TRANSFORMS.build(cfg)


def is_registered(registry):
    def check(cfg):
        name = cfg if isinstance(cfg, str) else cfg['type']
        assert registry.get(name).__module__.startswith(
            ('ausam_mm.', 'mmengine.'))
    return check


CHECKS = dict(
    backbone=build_model, model=build_model, pack=build_packing,
    strategy=is_registered(STRATEGIES), runner_type=is_registered(RUNNERS),
    data_preprocessor=preprocess, load_from=lambda path: None)


def run(example):
    """Runs it in an empty namespace, and returns what it leaves there."""
    example.globs = {}
    failed, tried = doctest.DocTestRunner().run(example, clear_globs=False)
    assert tried and not failed
    return example.globs


@pytest.mark.parametrize(
    'example', EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_an_example_runs_as_it_stands(example, tmp_path, monkeypatch):
    monkeypatch.setattr(rules, '_RULES', dict(rules._RULES))
    names = run(example)
    settings = {name: value for name, value in names.items()
                if isinstance(value, (dict, list, str)) and name[0] != '_'}
    training = {name: settings.pop(name) for name in OF_A_TRAINING
                if name in settings}
    if training:
        train(tmp_path, **training)
    for name, value in settings.items():
        CHECKS[name](value)


@pytest.mark.parametrize('name', WRAPPERS)
def test_a_method_has_an_example_that_configures_it(name):
    kind = WRAPPERS[name]
    example, = (example for example in EXAMPLES
                if example.name == f'{kind.__module__}.{kind.__name__}')
    assert run(example)['optim_wrapper']['type'] == name
