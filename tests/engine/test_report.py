"""What the terminal and the visualizer get of a training."""

import json
import logging
import re
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OptimWrapper

from ausam_mm.engine.report import shorten

from ..processes import launch
from ..runs import SIZE, runner, scalars
from ..toy import ToyModel, batch, wrap

AUSAM = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=2)
TO_BACKENDS = {
    'sgd_steps', 'dlp_over_loss', 'rho', 'ratio_used', 'two_passes',
    'grad_norm', 'mean_dlp', 'effective_sample_size', 'samples_loaded',
    'samples_backpropagated', 'skipped_perturbations', 'skipped_steps'}


def train(*args, scheduled=True, **kwargs):
    """Trains, and returns the Runner with its log in ``run.messages``."""
    run = runner(*args, **kwargs)
    if not scheduled:
        run.param_schedulers = None
    run.messages = []
    handler = logging.Handler()
    handler.emit = lambda record: run.messages.append(record.getMessage())
    run.logger.addHandler(handler)
    run.train()
    return run


def lines(run):
    """Those about training steps."""
    return [text for text in run.messages if re.match(r'\w+\(train\)', text)]


def names(line):
    return re.findall(r'([\w/]+): ', line)


@pytest.mark.parametrize('processor,prefix', [
    (dict(), ''),
    (dict(log_with_hierarchy=True, window_size=3), 'train/'),
])
def test_the_terminal_gets_four_scalars_and_an_event_file_all(
        tmp_path, processor, prefix):
    event_accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator')
    run = train(
        tmp_path, AUSAM, log_processor=dict(num_digits=6, **processor),
        visualizer=dict(type='Visualizer', vis_backends=[
            dict(type='TensorboardVisBackend'), dict(type='LocalVisBackend')]))
    assert len(lines(run)) == 12
    for line in lines(run):
        assert names(line) == [
            'lr', 'eta', 'time', 'data_time', 'ausam/sgd_steps', 'ausam/rho',
            'ausam/dlp_over_loss', 'loss']
        assert line in Path(run.logger.log_file).read_text()
    file, = Path(run.log_dir).rglob('events.out.tfevents.*')
    events = event_accumulator.EventAccumulator(str(file))
    events.Reload()
    tags = {tag for tag in events.Tags()['scalars'] if 'ausam' in tag}
    assert tags == {f'{prefix}ausam/{name}' for name in TO_BACKENDS}
    for tag in tags:
        written = [event.value for event in events.Scalars(tag)]
        assert written == pytest.approx([line[tag] for line in scalars(run)])
        assert [event.step for event in events.Scalars(tag)] == [*range(1, 13)]


def test_an_iteration_loop_s_line_has_what_a_custom_setting_asks_for(
        tmp_path):
    run = train(
        tmp_path, AUSAM, by_epoch=False, length=6, log_processor=dict(
            by_epoch=False, custom_cfg=[dict(
                data_src='ausam/ratio_used', log_name='mean_ratio',
                method_name='mean', window_size=2)]))
    assert [names(line)[-5:] for line in lines(run)] == [[
        'ausam/sgd_steps', 'ausam/rho', 'ausam/dlp_over_loss', 'loss',
        'mean_ratio']] * 6
    assert lines(run)[4].startswith('Iter(train) [5/6]')
    assert lines(run)[4].endswith('mean_ratio: 0.7500')  # of 1 and 0.5


@pytest.mark.parametrize('wrapper,cost', [
    (dict(type='SAM'), 2), (dict(type='MSAM'), 1),
    (dict(type='KSAM'), 1 / 3 + 1), (dict(type='AUSAM', warmup_iters=0), 1)])
def test_the_cost_is_in_steps_of_the_base_optimizer_on_full_batches(
        tmp_path, wrapper, cost):
    """The last batch of an epoch is half of a full one."""
    run = train(tmp_path, wrapper, length=9, size=SIZE - 4, scheduled=False)
    first = wrapper['type'] == 'AUSAM'  # it shows the reduction of the loss
    steps = 9 * (SIZE - 4) / 8
    assert scalars(run)[-1]['ausam/sgd_steps'] == pytest.approx(
        cost * steps + first, abs=0.5)
    assert names(lines(run)[-1])[4:] == ['ausam/sgd_steps'] + [
        'ausam/dlp_over_loss'] * first + ['loss']


def test_skipped_steps_are_printed_when_there_are_any():
    def printed(text):
        record = logging.makeLogRecord(dict(msg=text))
        assert shorten(record)
        return record.getMessage()

    head = 'Epoch(train) [1][2/3]  lr: 1.0e-01  '
    both = 'ausam/skipped_steps: {}  ausam/skipped_perturbations: 2  '
    assert printed(f'{head}{both.format(0)}loss: 1.0') == f'{head}loss: 1.0'
    assert printed(f'{head}{both.format(20)}loss: 1.0') == (
        f'{head}ausam/skipped_steps: 20  loss: 1.0')
    other = 'Set ausam/ratio_used: 1.0000'
    assert printed(other) == other and printed(17) == '17'


def test_a_dlp_that_an_overflow_hides_is_not_logged():
    model = ToyModel().double()
    # All samples are seen, the infinite one, too.
    wrapper = wrap(model, type='AUSAM', alpha=1., rho=0.1)
    hub = wrapper.base.message_hub = MessageHub.get_instance('overflow')
    data = batch()
    data['inputs'][0] = float('inf')
    for number in range(2):
        model.train_step(batch(number), wrapper)
    model.train_step(data, wrapper)
    for name in ('mean_dlp', 'dlp_over_loss'):
        history, _ = hub.get_scalar(f'train/ausam/{name}').data
        assert len(history) == 2 and (history > 0).all()
    assert hub.get_scalar('train/ausam/skipped_perturbations').current() == 1


def test_scalars_of_another_method_do_not_outlive_it(tmp_path):
    def resume(name, wrapper, length):
        run = train(tmp_path / name, wrapper, length=length, resume=True,
                    load_from=str(checkpoint))
        assert not any('resumed key' in text for text in run.messages)
        return {key for line in scalars(run) for key in line if 'ausam' in key}

    train(tmp_path / 'ausam', AUSAM, length=1)
    checkpoint = tmp_path / 'ausam' / 'epoch_1.pth'
    old = torch.load(checkpoint, weights_only=False)
    assert 'train/loss' in old['message_hub']['log_scalars']
    assert not any('ausam/' in key for part in old['message_hub'].values()
                   for key in part)
    assert resume('base', dict(type='OptimWrapper'), 2) == set()
    # Older checkpoints hold the scalars of their method.
    hub = old['message_hub']
    hub['log_scalars']['train/ausam/share_used'] = HistoryBuffer([0.5], [1])
    hub['resumed_keys']['train/ausam/share_used'] = True
    torch.save(old, checkpoint)
    ours = resume('sam', dict(type='SAM'), 2)
    assert ours == {f'ausam/{name}' for name in TO_BACKENDS - {
        'dlp_over_loss', 'mean_dlp', 'effective_sample_size'}}
    checkpoint = tmp_path / 'sam' / 'epoch_2.pth'
    assert resume('back', dict(type='OptimWrapper'), 3) == set()


def test_a_buffer_does_not_grow_with_the_training(monkeypatch):
    monkeypatch.setattr('ausam_mm.engine.report._LONGEST_WINDOW', 3)
    model = ToyModel().double()
    wrapper = wrap(model, type='SAM')
    hub = wrapper.base.message_hub = MessageHub.get_instance('buffers')
    for number in range(5):
        model.train_step(batch(number), wrapper)
    history, _ = hub.get_scalar('train/ausam/sgd_steps').data
    assert history.tolist() == [6, 8, 10]


PLANS = {
    'SAM trains for 2 epochs with rho=0.05.': dict(type='SAM'),
    'LookSAM trains for 2 epochs with rho=0.05, k=5, alpha=0.7.': dict(
        type='LookSAM'),
    'AUSAM trains for 2 epochs with rho=0.1, alpha=1.': dict(
        type='AUSAM', alpha=1),
    'AUSAM trains for 2 epochs with rho=0.1, alpha=(0.25, 0.75), a warm-up of '
    '1 epoch on full batches, s_max rising from 0.1 to 0.5 over 2 epochs.':
    dict(type='AUSAM', alpha=(0.25, 0.75), ramp_epochs=2),
    'AUSAM trains for 2 epochs with rho=0.2, alpha=0.5, a warm-up of 2 '
    "iterations on full batches, scores='uniform'.": dict(
        type='AUSAM', rho=0.2, scores='uniform', warmup_iters=2),
    'AUSAM trains for 2 epochs with rho=0.1, alpha=0.5, a warm-up of 1 epoch '
    "on full batches, s_max rising from 0.1 to 0.5 over 1 epoch, favor='low', "
    'decay=0.9.': dict(
        type='AUSAM', ramp_epochs=1, favor='low', decay=0.9),
}


@pytest.mark.parametrize('plan', PLANS)
def test_a_training_begins_with_its_plan_in_a_line(tmp_path, plan):
    run = train(tmp_path, PLANS[plan], length=2, scheduled=False)
    assert run.messages.count(plan) == 1
    assert run.messages.index(plan) < run.messages.index(lines(run)[0])
    assert not any('longer' in text for text in run.messages)


def test_a_scheduled_rho_is_in_the_plan_with_its_first_value(tmp_path):
    run = train(tmp_path, dict(type='SAM', rho=0.5), length=1)
    assert ('SAM trains for 3 iterations with rho=0.5 (scheduled).'
            in run.messages)


@pytest.mark.parametrize('options,loop,cautions', [
    (dict(), dict(length=10), [
        'ramp_epochs=30 is longer than the training of 10 epochs: s_max ends '
        'at 0.22 instead of 0.5. Set ramp_epochs=2, the published part of a '
        'training (30 of 200 epochs).']),
    (dict(warmup_iters=9, ramp_iters=99), dict(length=4, by_epoch=False), [
        'warmup_iters=9 lasts as long as the training of 4 iterations, so '
        'that AUSAM trains on full batches as SAM does: set warmup_iters=0 '
        'or train longer.',
        'ramp_iters=99 is longer than the training of 4 iterations: s_max '
        'ends at 0.11 instead of 0.5. Set ramp_iters=1, the published part '
        'of a training (30 of 200 epochs).']),
    (dict(ramp_epochs=10), dict(length=10), []),
    (dict(alpha=1), dict(length=2), []),
    (dict(scores='uniform', warmup_iters=0), dict(length=2), []),
    (dict(), dict(length=4, by_epoch=False), []),  # an epoch is unknown
])
def test_a_ramp_or_warm_up_longer_than_the_training_is_warned_of(
        tmp_path, options, loop, cautions):
    run = train(tmp_path, dict(type='AUSAM', **options), **loop)
    assert [text for text in run.messages
            if text.startswith(('ramp_', 'warmup_'))] == cautions
    if loop['length'] == 10 and not options:
        assert run.optim_wrapper.current_s_max(0) == pytest.approx(0.22)


def test_without_a_runner_the_scalars_are_in_the_hub_and_nothing_is_said():
    model = ToyModel().double()
    hub = MessageHub.get_instance('alone')
    hub.update_scalar('train/ausam/of_another', 1.)
    wrapper = wrap(model, type='AUSAM')
    assert wrapper.base.message_hub is hub
    model.train_step(batch(), wrapper)
    assert set(hub.log_scalars) == {
        f'train/ausam/{name}' for name in TO_BACKENDS - {'rho'}}
    plain = ToyModel().double()
    plain.train_step(batch(), OptimWrapper(
        torch.optim.SGD(plain.parameters(), lr=0.1)))


def train_in_a_process(folder):
    train(folder, AUSAM, launcher='pytorch', cfg=dict(
        model_wrapper_cfg=dict(device_ids=None)))


@pytest.mark.slow
def test_the_first_process_alone_writes(tmp_path):
    launch(train_in_a_process, 2, tmp_path)
    file, = tmp_path.rglob('scalars.json')
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line['step'] for line in written] == [*range(1, 9)]
    assert all({f'ausam/{name}' for name in TO_BACKENDS} <= line.keys()
               for line in written)
    file, = tmp_path.rglob('*.log')
    text = file.read_text()
    assert text.count('AUSAM trains for 4 epochs') == 1
    assert text.count('ausam/sgd_steps') == 8 and 'grad_norm' not in text
