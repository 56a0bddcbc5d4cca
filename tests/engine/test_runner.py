"""Real trainings by MMEngine's Runner: logs, loops, checkpoints, resume."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import OPTIM_WRAPPERS

from ..processes import launch
from ..runs import SIZE, Stop, runner, scalars
from ..toy import build, wrap

AUSAM = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=2)


def test_an_epoch_based_training_warms_up_then_samples_and_logs(tmp_path):
    run = runner(tmp_path, AUSAM)
    run.train()
    lines = scalars(run)
    ratios = [line['ausam/ratio_used'] for line in lines]
    assert ratios == [1.] * 3 + [0.5] * 9
    assert lines[-1]['ausam/samples_loaded'] == 4 * SIZE
    assert lines[-1]['ausam/samples_backpropagated'] == 2 * SIZE + 3 * SIZE
    assert lines[-1]['ausam/mean_dlp'] > 0
    assert len(run.optim_wrapper.history) == SIZE
    # The ramp: 2 epochs from 0.1 to 0.5, now in the 4th.
    assert run.optim_wrapper.current_s_max(run.iter) == 0.5
    assert run.optim_wrapper.param_groups[0]['rho'] == pytest.approx(0.05)


@pytest.mark.parametrize('options,warmup', [
    (dict(), 4),  # 3 batches, and the one that shows the first epoch is over
    (dict(warmup_iters=5, ramp_iters=6), 5),
    (dict(warmup_iters=2, scores='uniform'), 2),
])
def test_warm_up_in_an_iteration_loop_lasts_an_epoch_or_as_set(
        tmp_path, options, warmup):
    run = runner(tmp_path, {**AUSAM, **options}, by_epoch=False, length=12)
    run.train()
    ratios = [line['ausam/ratio_used'] for line in scalars(run)]
    assert ratios == [1.] * warmup + [0.5] * (12 - warmup)


def test_a_resumed_training_has_the_history_and_counters(tmp_path):
    whole = runner(tmp_path / 'whole', AUSAM)
    whole.train()
    broken = runner(tmp_path / 'broken', AUSAM, custom_hooks=[Stop(6)])
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = runner(tmp_path / 'broken', AUSAM, resume=True)
    resumed.train()
    assert resumed.optim_wrapper.samples_loaded == 4 * SIZE
    assert resumed.optim_wrapper.num_steps == 12
    keys = torch.arange(SIZE)
    assert torch.equal(
        resumed.optim_wrapper.history.counts(keys),
        whole.optim_wrapper.history.counts(keys))
    ratios = [line['ausam/ratio_used'] for line in scalars(resumed)]
    assert ratios[-6:] == [0.5] * 6


def test_wrappers_can_be_swapped_on_a_checkpoint(tmp_path):
    base = dict(type='OptimWrapper')
    runner(tmp_path / 'base', base, length=1).train()
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())

    to_ausam = runner(
        tmp_path / 'to_ausam',
        AUSAM,
        length=3,
        load_from=str(tmp_path / 'base' / 'epoch_1.pth'),
        resume=True)
    MMLogger.get_current_instance().addHandler(handler)
    to_ausam.train()
    assert any('starts with an empty state' in text for text in messages)
    assert to_ausam.optim_wrapper.optimizer.param_groups[0]['rho'] > 0
    assert len(to_ausam.optim_wrapper.history) > 0

    back = runner(
        tmp_path / 'back',
        base,
        length=4,
        load_from=str(tmp_path / 'to_ausam' / 'epoch_3.pth'),
        resume=True)
    back.train()
    assert back.epoch == 4


def test_a_checkpoint_loads_with_weights_only(tmp_path):
    """With what MMEngine itself allows for its message hub, and no more."""
    from mmengine.runner.checkpoint import get_torch_safe_globals
    runner(tmp_path, AUSAM, length=2).train()
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    assert len(checkpoint['optimizer']['ausam_mm']['history']['keys']) == SIZE


def test_data_may_be_added_between_runs(tmp_path):
    runner(tmp_path, AUSAM, length=2).train()
    more = runner(tmp_path, AUSAM, length=6, size=SIZE + 16, resume=True)
    more.train()
    history = more.optim_wrapper.history
    assert len(history) == SIZE + 16
    # What is new counts as the highest until it was used.
    assert history.counts(torch.arange(SIZE, SIZE + 16)).min() >= 1
    old = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    old = old['optimizer']['ausam_mm']['history']
    assert (history.counts(old['keys']) >= old['counts']).all()
    assert history.counts(old['keys']).sum() > old['counts'].sum()


@pytest.mark.parametrize('foreign', [{}, dict(state={}), dict(model={})])
def test_a_state_of_another_object_is_refused(foreign):
    wrapper = wrap(build(), type='AUSAM')
    with pytest.raises(ValueError, match='no state of an optimizer: resume '
                       'from one that MMEngine saved'):
        wrapper.load_state_dict(foreign)
    state = wrapper.state_dict()
    state['ausam_mm']['history'].pop('means')
    with pytest.raises(ValueError, match='no state of a SampleHistory'):
        wrapper.load_state_dict(state)


def train_alone(folder):
    run = runner(folder, AUSAM, noise=0.5)
    run.train()
    return run.model.state_dict(), run.optim_wrapper.history.state_dict()


def test_a_training_in_a_new_process_is_the_same_with_the_same_seed(tmp_path):
    """In processes of their own: sums depend on where memory lies."""
    results = [launch(train_alone, 1, tmp_path / name)[0] for name in 'ab']
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_rho_of_param_groups_survives_a_checkpoint_without_it():
    model = build()
    state = wrap(build(), type='OptimWrapper').state_dict()
    weights, biases = ([p for name, p in model.named_parameters()
                        if name.endswith(kind)] for kind in ('weight', 'bias'))
    state['param_groups'] = [
        dict(state['param_groups'][0], params=list(ids), lr=0.5)
        for ids in (range(len(weights)), range(len(weights), 2 * len(weights)))
    ]
    wrapper = OPTIM_WRAPPERS.build(dict(
        type='SAM', rho=0.3, optimizer=torch.optim.SGD(
            [dict(params=weights), dict(params=biases, rho=0.)], lr=0.1)))
    wrapper.load_state_dict(state)
    groups = wrapper.optimizer.param_groups
    assert [group['rho'] for group in groups] == [0.3, 0.]
    assert [group['lr'] for group in groups] == [0.5, 0.5]
