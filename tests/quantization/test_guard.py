"""Who keeps step sizes valid, and that it is said where nobody does."""

import copy
import logging
import subprocess
import sys

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from ausam_mm.quantization import (
    StepSize,
    StepSizeHook,
    guard_step_sizes,
    quantize_model,
)

from .. import runs
from .models import toy


def trained_with(step, guarded=True, times=1, gradient=2.):
    """A step size of 1 after a step of SGD with learning rate 1."""
    optimizer = torch.optim.SGD([step], lr=1.)
    for _ in range(times if guarded else 0):
        guard_step_sizes(optimizer)
    step.grad = torch.full_like(step, gradient)
    optimizer.step()
    return float(step.detach())


def test_a_guarded_optimizer_refuses_what_is_no_step_size():
    assert trained_with(StepSize(torch.ones(()))) == 1
    assert trained_with(StepSize(torch.ones(())), gradient=0.5) == 0.5


def test_an_optimizer_without_a_guard_is_left_alone():
    assert trained_with(StepSize(torch.ones(())), guarded=False) == -1


def test_guarding_twice_adds_no_second_hook():
    step = StepSize(torch.ones(()))
    optimizer = torch.optim.SGD([step], lr=1.)
    guard_step_sizes(optimizer)
    hooks = len(optimizer._optimizer_step_post_hooks)
    guard_step_sizes(optimizer)
    assert len(optimizer._optimizer_step_post_hooks) == hooks == 1


def test_parameters_that_come_later_are_guarded():
    first, second = (StepSize(torch.ones(())) for _ in range(2))
    optimizer = torch.optim.SGD([first], lr=1.)
    guard_step_sizes(optimizer)
    optimizer.add_param_group(dict(params=[second]))
    second.grad = torch.tensor(2.)
    optimizer.step()
    assert second.detach() == 1


class Run:
    """All that the hook asks of a Runner."""

    def __init__(self, wrapper):
        self.optim_wrapper = wrapper


def test_the_hook_guards_each_of_several_optimizers():
    steps = [StepSize(torch.ones(())) for _ in range(2)]
    wrappers = OptimWrapperDict(**{
        str(i): OptimWrapper(torch.optim.SGD([step], lr=1.))
        for i, step in enumerate(steps)})
    StepSizeHook().before_train(Run(wrappers))
    for step in steps:
        step.grad = torch.tensor(2.)
    for wrapper in wrappers.values():
        wrapper.step()
    assert all(step.detach() == 1 for step in steps)


@pytest.fixture
def warned(monkeypatch):
    """The warnings about a missing guard; one was given before, maybe."""
    monkeypatch.setattr(StepSize, 'asks_for_guard', True)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lambda: [r.getMessage() for r in records
                   if 'StepSizeHook' in r.getMessage()]
    logger.removeHandler(handler)


def small(**options):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    quantize_model(model, **options)
    model(torch.randn(3, 4))  # initializes
    return model


def test_training_without_a_guard_is_said_once(warned):
    model = small()
    for _ in range(3):
        model(torch.randn(3, 4)).sum().backward()
    assert len(warned()) == 1
    assert "custom_hooks=[dict(type='StepSizeHook')]" in warned()[0]


def test_a_guarded_model_and_its_copies_in_eval_mode_say_nothing(warned):
    model = small()
    guard_step_sizes(torch.optim.SGD(model.parameters(), lr=0.1))
    ema = copy.deepcopy(model).eval()
    model(torch.randn(3, 4)).sum().backward()
    ema(torch.randn(3, 4))
    with torch.no_grad():
        copy.deepcopy(model)(torch.randn(3, 4))
    assert not warned()


@pytest.mark.parametrize('hooks', [[], [dict(type='StepSizeHook')]], ids=str)
def test_a_runner_with_the_hook_trains_without_a_warning(
        hooks, warned, tmp_path, capsys):
    runs.runner(tmp_path, dict(type='OptimWrapper'), model=toy(),
                custom_hooks=hooks, length=2).train()
    said = 'without a guard' in capsys.readouterr().out
    assert said == (not hooks)


def test_the_package_is_imported_without_quantization():
    code = ('import sys, ausam_mm;'
            'assert "ausam_mm.quantization" not in sys.modules;'
            'import ausam_mm.quantization;'
            'from mmengine.registry import HOOKS, MODELS;'
            'assert MODELS.get("LSQModel") and HOOKS.get("StepSizeHook")')
    subprocess.run([sys.executable, '-c', code], check=True)
