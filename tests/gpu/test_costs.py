"""Where Python waits for the device, and what memory a step takes."""

import gc

import pytest
import torch
from torch import nn

from ausam_mm.engine import Perturbation

from ..toy import ToyModel, batch, wrap
from .report import host_waits
from .trainings import METHODS, amp_base


def waits(device, dtype, options):
    """Host waits before and from the optimizer's step on."""
    torch.manual_seed(0)
    model = ToyModel(norm=True, dropout=0.1).to(device).train()
    base = None if dtype == 'float32' else amp_base(device, dtype)
    if options is None:
        options = base or dict(type='OptimWrapper')
    else:
        options = dict(options, base=base)
    wrapper = wrap(model, **options)
    for step in range(3):
        model.train_step(batch(step), wrapper)
    return host_waits(lambda: model.train_step(batch(3), wrapper), device)


@pytest.mark.parametrize('dtype,more', [
    # Whether the gradient is finite the GradScaler reads in any case; where
    # there is none the engine has to.
    ('float32', 1), ('float16', 0), ('bfloat16', 0)])
@pytest.mark.parametrize('method', METHODS)
def test_python_waits_before_the_step_only_to_see_that_it_is_finite(
        device, dtype, more, method, monkeypatch):
    # On a CPU as where the norm is not at hand.
    monkeypatch.setattr(Perturbation, '_is_at_hand', lambda self, norm: False)
    before, after = waits(device, dtype, None)
    assert (before, after) == (0 if dtype == 'float32' else 1, 0)
    before_of_method, after = waits(device, dtype, METHODS[method])
    assert before_of_method == before + more
    # What the log and the table want, when the step is over.
    if device == 'cuda':
        assert 0 < after <= (2 if method == 'SAM' else 4)


class Wide(ToyModel):
    """Many weights and small activations."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 1024), *[nn.Linear(1024, 1024) for _ in range(2)],
            nn.Linear(1024, 3))


def train_wide(device, accumulation, options):
    torch.manual_seed(0)
    model = Wide().to(device).train()
    wrapper = wrap(model, lr=1e-4, accumulative_counts=accumulation, **options)
    wrapper.initialize_count_status(model, 0, 3 * accumulation)
    for step in range(3 * accumulation):
        model.train_step(batch(step), wrapper)
    assert all(p.isfinite().all() for p in model.parameters())
    return sum(p.numel() * p.element_size() for p in model.parameters())


def peak(device, *args):
    """The most memory a training holds at once, in copies of its weights."""
    gc.collect()
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        size = train_wide(device, *args)
        return (torch.cuda.max_memory_allocated() - before) / size
    with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU],
            profile_memory=True) as profile:
        size = train_wide(device, *args)
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            most = max(most, held)
    return most / size


@pytest.mark.parametrize('method', METHODS)
def test_a_step_holds_one_more_copy_of_the_weights(device, method):
    usual = dict(type='OptimWrapper')
    train_wide(device, 1, usual)  # cuBLAS takes its memory once
    more = peak(device, 1, METHODS[method]) - peak(device, 1, usual)
    assert 0.9 < more < 1.1
    # While accumulating, one of the gradients besides.
    more = peak(device, 2, METHODS[method]) - peak(device, 2, usual)
    assert 0.9 < more < 2.1
