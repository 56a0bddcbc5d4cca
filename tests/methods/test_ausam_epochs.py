"""Epochs of loops that count none, and samples that never come again."""

import logging

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel

from ..processes import launch
from ..runs import runner
from ..toy import batch, build, record_selections, wrap


@pytest.fixture
def hub(request):
    """What the loop says of itself; nothing at first."""
    return MessageHub.get_instance(request.node.name)


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(
        'ausam_mm.methods.ausam.print_log',
        lambda message, logger, level=logging.INFO: said.append(message))
    return said


def stream(model, wrapper, steps, size=8, first=0):
    """Steps on samples of which each is a new one."""
    for i in range(first, first + steps):
        model.train_step(batch(i, size, first_index=i * size), wrapper)


# -- several processes --

UNEVEN = (8, 5)  # samples of a batch of each process
STEPS = 8


def warm_ups():
    return [warm_up(resume) for resume in (False, True)]


def warm_up(resume):
    """How many samples each step's passes saw, and the epochs."""
    MessageHub.get_instance('uneven')
    size = UNEVEN[get_rank()]
    model = MMDistributedDataParallel(build())
    wrapper = wrap(model, type='AUSAM', ramp_epochs=2)
    selections, epochs = record_selections(wrapper), []
    for i in range(STEPS):
        if i == 2 and resume:  # both from the first one's checkpoint
            state = [wrapper.state_dict()]
            torch.distributed.broadcast_object_list(state)
            wrapper.load_state_dict(state[0])
        # 3 batches of each process have all of its samples.
        first = 100 * get_rank() + i % 3 * size
        model.train_step(batch(i, size, first_index=first), wrapper)
        epochs.append(wrapper.epoch())
    return [len(each.descent) for each in selections], epochs


@pytest.mark.slow
def test_uneven_processes_leave_the_warm_up_at_the_same_step():
    for found, size in zip(launch(warm_ups, 2), UNEVEN):
        for seen, epochs in found:  # uninterrupted, and resumed
            assert seen == [size] * 4 + [size // 2] * 4
            assert epochs == [0, 0, 0, 1, 1, 1, 2, 2]


def test_an_older_checkpoint_counts_on_from_the_samples_of_rank_0(hub):
    model = build()
    wrapper = wrap(model, type='AUSAM')
    for _ in range(3):
        model.train_step(batch(), wrapper)
    state = wrapper.state_dict()
    for name in ('samples_seen', 'samples_repeat'):
        del state['ausam_mm'][name]
    resumed = wrap(model, type='AUSAM')
    resumed.load_state_dict(state)
    assert resumed.samples_seen == wrapper.samples_seen == 48
    assert resumed.epoch() == wrapper.epoch() == 2


# -- streams --


def test_a_stream_is_warned_of_once_after_a_tenth_of_the_training(
        hub, warnings):
    hub.update_info('max_iters', 1500)
    model = build()
    wrapper = wrap(model, type='AUSAM')
    stream(model, wrapper, 150)
    assert not warnings
    stream(model, wrapper, 20, first=150)
    message, = warnings
    for remedy in ('warmup_iters', 'ramp_iters', 'max_samples',
                   "scores='uniform'"):
        assert remedy in message
    assert wrapper.in_warmup(wrapper.num_steps)


@pytest.mark.parametrize('scores', ['adlp', 'loss'])
def test_samples_that_come_twice_are_no_stream(hub, warnings, scores):
    hub.update_info('max_iters', 400)
    model = build()
    wrapper = wrap(model, type='AUSAM', scores=scores)
    stream(model, wrapper, 90)
    stream(model, wrapper, 5)  # the first ones again
    resumed = wrap(model, type='AUSAM', scores=scores)
    resumed.load_state_dict(wrapper.state_dict())
    stream(model, resumed, 20, first=95)
    assert not warnings


@pytest.mark.parametrize('begin', [0, 7])
def test_a_stream_is_warned_of_in_the_methods_third_epoch(
        hub, warnings, begin):
    hub.update_info('max_epochs', 20)
    model = build()
    wrapper = wrap(model, type='AUSAM')
    for epoch, said in ((0, 0), (1, 0), (2, 1), (3, 1)):
        hub.update_info('epoch', begin + epoch)
        stream(model, wrapper, 3, first=3 * epoch)
        assert len(warnings) == said


def test_uniform_scores_and_a_finished_warm_up_suit_a_stream(hub, warnings):
    hub.update_info('max_iters', 100)
    model = build()
    wrapper = wrap(model, type='AUSAM', scores='uniform', warmup_iters=2,
                   ramp_iters=0)
    stream(model, wrapper, 105)
    assert not warnings and not len(wrapper.history)
    assert wrapper.samples_backpropagated == 2 * (16 + 103 * 4)


def test_a_bounded_table_ends_the_warm_up_of_a_stream(hub):
    """An epoch is then as many samples as the table keeps."""
    model = build()
    wrapper = wrap(model, type='AUSAM', max_samples=40)
    selections = record_selections(wrapper)
    stream(model, wrapper, 12)
    assert [len(each.ascent) for each in selections] == [8] * 6 + [4] * 6
    assert len(wrapper.history) == 40
    newest = torch.arange(11 * 8, 12 * 8)
    assert wrapper.history.counts(newest).sum() == 4


def test_a_bounded_table_resumes_to_the_same_end(tmp_path):
    options = dict(
        wrapper=dict(type='AUSAM', max_samples=10, warmup_iters=1,
                     ramp_iters=4, seed=1),
        by_epoch=False, length=10, exact=True)
    whole = runner(tmp_path / 'a', **options)
    whole.train()
    resumed = runner(tmp_path / 'b', **options, resume=True,
                     load_from=str(tmp_path / 'a' / 'iter_6.pth'))
    resumed.train()
    assert len(resumed.optim_wrapper.history) == 10
    one, other = (each.optim_wrapper.state_dict()['ausam_mm']
                  for each in (whole, resumed))
    assert one.pop('loss_modules') == other.pop('loss_modules')
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_max_samples_is_checked():
    with pytest.raises(ValueError, match='max_samples=0 is no number'):
        wrap(build(), type='AUSAM', max_samples=0)
