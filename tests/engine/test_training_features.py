"""Compilers, activation checkpointing, hooks, memory layouts."""

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.runner.activation_checkpointing import (
    turn_on_activation_checkpointing,
)
from torch import nn
from torch._dynamo.testing import CompileCounter

from ..runs import runner
from ..toy import ToyModel, batch, build, difference, wrap

AUSAM = dict(type='AUSAM', rho=0.3, alpha=0.5, warmup_iters=2)
METHODS = [dict(type='SAM', rho=0.3), AUSAM]


def shuffled(step):
    """As a shuffling loader: no two batches have their samples in a row."""
    data = batch(step)
    order = torch.randperm(
        16, generator=torch.Generator().manual_seed(step))
    return dict(inputs=data['inputs'][order],
                data_samples=[data['data_samples'][i] for i in order])


def compilations(target, options, steps=10):
    """Counts of compiled graphs after each step; checks the weights."""
    torch._dynamo.reset()
    model, eager = build(norm=True), build(norm=True)
    counter = CompileCounter()
    setattr(model, target,
            torch.compile(getattr(model, target), backend=counter))
    wrapper, expected = wrap(model, **options), wrap(eager, **options)
    counts = []
    for step in range(steps):
        model.train_step(shuffled(step), wrapper)
        eager.train_step(shuffled(step), expected)
        counts.append(counter.frame_count)
    assert difference(model, eager) == 0
    if options['type'] == 'AUSAM':
        table = expected.history
        torch.testing.assert_close(
            wrapper.history.means(torch.arange(16)),
            table.means(torch.arange(16)), rtol=0, atol=0)
    return counts


@pytest.mark.parametrize('options', METHODS, ids=['SAM', 'AUSAM'])
def test_a_compiled_forward_is_compiled_once_for_each_kind_of_pass(options):
    counts = compilations('forward', options)
    # A pass that moves statistics and one that does not; on the full batch
    # and on a part; before and after the loss module. AUSAM's very first one
    # looks at BatchNorm. The look at the losses is on the batch and on parts
    # of it, before and after the loss module.
    assert counts[-1] <= (2 if options['type'] == 'SAM' else 7 + 4)
    assert counts[3:] == [counts[-1]] * len(counts[3:])


@pytest.mark.slow
def test_a_compiled_train_step_is_recompiled_no_more_often_than_the_bases():
    """MMEngine's own preprocessing is compiled anew for new samples."""
    base = compilations('train_step', dict(type='OptimWrapper'), steps=7)
    counts = compilations('train_step', AUSAM, steps=7)
    assert counts[-1] - counts[3] <= base[-1] - base[3]


@pytest.mark.parametrize('options', [
    *METHODS, dict(AUSAM, alpha=(0.25, 0.75))], ids=['SAM', 'AUSAM', 'pair'])
def test_activation_checkpointing_changes_nothing(options):
    model, other, baseline = (build(norm=True, dropout=0.3) for _ in range(3))
    for checkpointed in (model, baseline):
        turn_on_activation_checkpointing(checkpointed, ['net.1', 'net.3'])
    wrapper, expected = wrap(model, **options), wrap(other, **options)
    usual = wrap(baseline, type='OptimWrapper')
    for step in range(5):
        for network, optim in ((model, wrapper), (other, expected),
                               (baseline, usual)):
            torch.manual_seed(step)
            network.train_step(batch(step), optim)
    assert difference(model, other) < 1e-12
    # Recomputation moves the statistics again, once a step as without SAM.
    assert model.net[1].num_batches_tracked == \
        baseline.net[1].num_batches_tracked == 10


class Track(Hook):
    """The weights after every iteration."""

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        self.weights.append(runner.model.net[0].weight.detach().clone())


def test_an_ema_averages_the_weights_and_not_w_plus_eps(tmp_path):
    track, ema = Track(), EMAHook(momentum=0.5)
    run = runner(tmp_path, AUSAM, custom_hooks=[track, ema], length=2)
    run.train()
    average = None
    for weight in track.weights:
        average = weight if average is None else (average + weight) / 2
    averaged = ema.ema_model.module
    # The hook swaps the averaged weights in for the checkpoint and back.
    torch.testing.assert_close(averaged.net[0].weight.detach(), average)
    for module in averaged.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert len(track.weights) == 6


def test_sync_buffers_and_precise_batchnorm_hooks_train_with_ausam(tmp_path):
    hooks = pytest.importorskip('mmpretrain.engine.hooks')

    class Tensors(ToyModel):  # the hook calls the model in mode 'tensor'

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return super().forward(inputs, data_samples, mode)

    torch.manual_seed(0)
    precise = runner(
        tmp_path / 'precise', AUSAM, length=2,
        model=Tensors(norm=True, dropout=0.1).double(),
        custom_hooks=[dict(type='SyncBuffersHook'),
                      hooks.PreciseBNHook(num_samples=24)])
    without = runner(tmp_path / 'without', AUSAM, length=2)
    for run in (precise, without):
        run.train()
    # Two more batches of statistics than two epochs of three, by the hook.
    tracked = [int(run.model.net[1].num_batches_tracked)
               for run in (precise, without)]
    assert tracked == [12, 6]
    assert precise.optim_wrapper.num_steps == 6
    assert precise.model.net[1].momentum == 0.1
    assert precise.model.net[1].track_running_stats


@pytest.mark.parametrize('options', METHODS, ids=['SAM', 'AUSAM'])
def test_channels_last_is_kept_and_changes_nothing(options):

    class Images(ToyModel):

        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def images(step):
        inputs = torch.randn(
            16, 3, 8, 8, dtype=torch.double,
            generator=torch.Generator().manual_seed(step))
        return dict(batch(step), inputs=inputs)

    models = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = Images().double().to(memory_format=layout)
        wrapper = wrap(model, **options)
        for step in range(5):
            data = images(step)
            data['inputs'] = data['inputs'].to(memory_format=layout)
            model.train_step(data, wrapper)
        models.append(model)
    assert difference(*models) < 1e-12
    weight = models[1].net[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
