"""Real trainings by MMEngine's Runner: logs, loops, checkpoints, resume."""

import json
import logging
from pathlib import Path

import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch.utils.data import Dataset

from ..toy import ToyModel, batch

SIZE = 24


class Samples(Dataset):

    def __init__(self):
        self.data = batch(size=SIZE)

    def __len__(self):
        return SIZE

    def __getitem__(self, i):
        return dict(
            inputs=self.data['inputs'][i],
            data_samples=self.data['data_samples'][i])


def runner(work_dir, wrapper, by_epoch=True, length=4, **kwargs):
    runner.count = getattr(runner, 'count', 0) + 1
    torch.manual_seed(0)
    model = ToyModel(norm=True, dropout=0.1).double()
    sampler = dict(type='DefaultSampler', shuffle=True) if by_epoch else \
        dict(type=InfiniteSampler, shuffle=True)
    loop = dict(by_epoch=True, max_epochs=length) if by_epoch else dict(
        by_epoch=False, max_iters=length)
    return Runner(
        model,
        str(work_dir),
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            dataset=Samples(),
            sampler=sampler,
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=loop,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.02, momentum=0.9), **wrapper),
        param_scheduler=dict(
            type='LinearParamScheduler',
            param_name='rho',
            start_factor=1.,
            end_factor=0.5,
            begin=0,
            end=4) if wrapper['type'] != 'OptimWrapper' else None,
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(
                type='CheckpointHook', interval=1, by_epoch=by_epoch)),
        randomness=dict(seed=0),
        experiment_name=f'run_{runner.count}',
        **kwargs)


def scalars(run):
    file = next(iter(sorted(
        Path(run.log_dir).rglob('scalars.json'))))
    return [json.loads(line) for line in file.read_text().splitlines()]


class Stack(ToyModel):
    """Inputs come as a list of tensors from pseudo_collate."""


@pytest.fixture(autouse=True)
def stacked(monkeypatch):
    forward = ToyModel.forward

    def stacking(self, inputs, data_samples=None, mode='tensor'):
        if isinstance(inputs, list):
            inputs = torch.stack(inputs)
        return forward(self, inputs, data_samples, mode)

    monkeypatch.setattr(ToyModel, 'forward', stacking)


AUSAM = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=2)


def test_an_epoch_based_training_warms_up_samples_and_logs(tmp_path):
    run = runner(tmp_path, AUSAM)
    run.train()
    lines = scalars(run)
    shares = [line['ausam/share_used'] for line in lines]
    assert shares == [1.] * 3 + [0.5] * 9
    assert lines[-1]['ausam/samples_loaded'] == 4 * SIZE
    assert lines[-1]['ausam/samples_backpropagated'] == 2 * SIZE + 3 * SIZE
    assert lines[-1]['ausam/mean_dlp'] > 0
    assert len(run.optim_wrapper.history) == SIZE
    # The ramp: 2 epochs from 0.1 to 0.5, now in the 4th.
    assert run.optim_wrapper.current_s_max() == 0.5
    assert run.optim_wrapper.param_groups[0]['rho'] == pytest.approx(0.05)


@pytest.mark.parametrize('options,warmup', [
    (dict(), 4),  # 3 batches, and the one that shows the first epoch is over
    (dict(warmup_iters=5, ramp_iters=6), 5),
    (dict(warmup_iters=2, scores='uniform'), 2),
])
def test_an_endless_sampler_has_epochs_or_iterations(tmp_path, options,
                                                     warmup):
    run = runner(tmp_path, {**AUSAM, **options}, by_epoch=False, length=12)
    run.train()
    shares = [line['ausam/share_used'] for line in scalars(run)]
    assert shares == [1.] * warmup + [0.5] * (12 - warmup)


class Stop(Hook):
    """Ends the training after an epoch as a crash would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


def test_resuming_brings_back_table_draws_and_counters(tmp_path):
    whole = runner(tmp_path / 'whole', AUSAM)
    whole.train()
    broken = runner(tmp_path / 'broken', AUSAM, custom_hooks=[Stop(2)])
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    # MMEngine's message hub is in the checkpoint, too; our part is plain.
    checkpoint = torch.load(
        tmp_path / 'broken' / 'epoch_2.pth', weights_only=False)
    torch.save(checkpoint['optimizer'], tmp_path / 'optimizer.pth')
    state = torch.load(tmp_path / 'optimizer.pth', weights_only=True)
    assert len(state['ausam_mm']['history']['keys']) == SIZE

    resumed = runner(tmp_path / 'broken', AUSAM, resume=True)
    resumed.train()
    assert resumed.optim_wrapper.samples_loaded == 4 * SIZE
    assert resumed.optim_wrapper.num_steps == 12
    keys = torch.arange(SIZE)
    assert torch.equal(
        resumed.optim_wrapper.history.counts(keys),
        whole.optim_wrapper.history.counts(keys))
    shares = [line['ausam/share_used'] for line in scalars(resumed)]
    assert shares[-6:] == [0.5] * 6


def test_wrappers_can_be_swapped_on_a_checkpoint(tmp_path):
    plain = dict(type='OptimWrapper')
    runner(tmp_path / 'plain', plain, length=1).train()
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())

    to_ausam = runner(
        tmp_path / 'to_ausam',
        AUSAM,
        length=3,
        load_from=str(tmp_path / 'plain' / 'epoch_1.pth'),
        resume=True)
    MMLogger.get_current_instance().addHandler(handler)
    to_ausam.train()
    assert any('starts with an empty state' in text for text in messages)
    assert to_ausam.optim_wrapper.optimizer.param_groups[0]['rho'] > 0
    assert len(to_ausam.optim_wrapper.history) > 0

    back = runner(
        tmp_path / 'back',
        plain,
        length=4,
        load_from=str(tmp_path / 'to_ausam' / 'epoch_3.pth'),
        resume=True)
    back.train()
    assert back.epoch == 4
