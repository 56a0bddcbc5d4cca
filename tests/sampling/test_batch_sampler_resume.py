"""Selection before loading in trainings that stop, change, or are shared."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel

from ..processes import launch
from ..runs import SIZE
from ..toy import build
from .trainings import (
    LENGTH,
    PAPER,
    SYSTEMATIC,
    WORKERS,
    assert_same,
    state,
    train,
)

LOOPS = dict(
    epochs=dict(),
    iterations=dict(by_epoch=False, length=LENGTH),
    passes=dict(by_epoch=False, length=LENGTH, endless=False))


@pytest.mark.parametrize('loop,workers,stop', [
    ('epochs', 'none', 4), ('epochs', 'one', 5), ('epochs', 'persistent', 7),
    ('iterations', 'none', 9), ('iterations', 'one', 5),
    ('passes', 'none', 4), ('passes', 'one', 10)])
def test_a_stopped_training_resumes_to_the_same_end(
        tmp_path, loop, stop, workers):
    options = dict(
        LOOPS[loop], loader=WORKERS[workers], checkpoints_by_epoch=False,
        noise=0.5, wrapper=dict(SYSTEMATIC, warmup_iters=2, ramp_iters=8))
    whole = train(tmp_path / 'a', exact=True, **options)
    train(tmp_path / 'b', exact=True, stop=stop, **options)
    resumed = train(tmp_path / 'b', exact=True, resume=True, **options)
    assert_same(whole.seen[stop:], resumed.seen)
    assert_same(state(whole), state(resumed))


def test_a_training_stopped_twice_resumes_to_the_same_end(tmp_path):
    options = dict(
        LOOPS['iterations'], loader=WORKERS['one'], exact=True,
        wrapper=dict(SYSTEMATIC, warmup_iters=2, ramp_iters=8))
    whole = train(tmp_path / 'a', **options)
    train(tmp_path / 'b', stop=5, **options)
    train(tmp_path / 'b', stop=6, resume=True, **options)
    resumed = train(tmp_path / 'b', resume=True, **options)
    assert_same(whole.seen[6:], resumed.seen)


@pytest.mark.parametrize('workers', ['none', 'one'])
@pytest.mark.parametrize('endless', [True, False])
def test_a_training_without_exact_resume_replays_and_ends_the_same(
        tmp_path, endless, workers):
    options = dict(
        by_epoch=False, length=LENGTH, endless=endless,
        loader=WORKERS[workers], wrapper=dict(
            SYSTEMATIC, warmup_iters=2, ramp_iters=8))
    whole = train(tmp_path / 'a', **options)
    train(tmp_path / 'b', stop=5, **options)
    resumed = train(tmp_path / 'b', resume=True, **options)
    assert_same(whole.seen[5:], resumed.seen)


def test_an_epoch_that_starts_anew_after_a_resume_is_selected_from(tmp_path):
    options = dict(checkpoints_by_epoch=False, loader=dict(
        num_workers=1, prefetch_factor=3))
    train(tmp_path, stop=5, **options)
    resumed = train(tmp_path, resume=True, **options)
    assert [seen['loaded'] for seen in resumed.seen] == [4] * 9
    # MMEngine cannot tell a training of one epoch from one of iterations.
    options = dict(size=80, length=1, wrapper=dict(PAPER, warmup_iters=1),
                   checkpoints_by_epoch=False)
    train(tmp_path / 'b', stop=5, **options)
    resumed = train(tmp_path / 'b', resume=True, **options)
    assert [seen['loaded'] for seen in resumed.seen] == [8] + [4] * 9


@pytest.mark.parametrize('first', [True, False])
def test_a_history_serves_selection_in_the_loader_and_in_the_step(
        tmp_path, first):
    train(tmp_path, in_loader=first, stop=6)
    before = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    table = before['optimizer']['ausam_mm']['history']
    resumed = train(tmp_path, in_loader=not first, resume=True)
    history = resumed.optim_wrapper.history
    assert len(table['keys']) == SIZE == len(history)
    assert (history.counts(table['keys']) >= table['counts']).all()
    assert sum(history.counts(table['keys'])) == sum(table['counts']) + 24
    if not first:  # which sample an index stands for is learnt meanwhile
        known = set(resumed.optim_wrapper.batch_sampler.keys.tolist())
        perturbed = torch.cat([seen['keys'][seen['ascent']]
                             for seen in resumed.seen])
        assert known & set(table['keys'].tolist()) == set(perturbed.tolist())


def test_data_added_between_runs_is_selected_by_the_loader(tmp_path):
    train(tmp_path, stop=6)
    resumed = train(tmp_path, resume=True, size=SIZE + 16, length=8)
    assert len(resumed.optim_wrapper.history) == SIZE + 16
    assert {seen['loaded'] for seen in resumed.seen} == {4}


def in_a_process(folder, options):
    """A training, and one that stops and resumes."""
    found = []
    for name, more in (('a', {}), ('b', dict(stop=7)), ('b', dict(
            resume=True))):
        run = train(folder / name, **options, **more,
                    model=lambda: MMDistributedDataParallel(build()))
        weights, wrapper = state(run)
        found.append(dict(
            seen=[{**seen, 'keys': seen['keys'].tolist()}
                  for seen in run.seen],
            weights=weights, wrapper=wrapper['ausam_mm']))
    return found


def test_processes_select_equally_many_and_share_the_history(tmp_path):
    whole, _, resumed = zip(*launch(in_a_process, 2, tmp_path, dict(
        wrapper=dict(SYSTEMATIC, keep_losses='last'), size=44,
        checkpoints_by_epoch=False, exact=True, loader=WORKERS['one'])))
    one, two = whole
    assert_same(one['weights'], two['weights'])
    assert_same(one['wrapper'], two['wrapper'])
    # 22 samples each: batches of 8, 8 and 6, and of 6, 6 and 4 of them.
    loaded = [[seen['loaded'] for seen in run['seen']] for run in whole]
    assert loaded[0] == loaded[1] == [8, 8, 6] + [6, 6, 4] * 3
    assert [a['keys'] for a in one['seen']] != [b['keys'] for b in two['seen']]
    for table in ('history', 'losses'):
        assert len(one['wrapper'][table]['keys']) == 44
    assert sorted(one['wrapper']['batch_sampler']['keys'].tolist()) == \
        list(range(44))
    for before, after in zip(whole, resumed):
        assert_same(before['seen'][7:], after['seen'])
        assert_same(before['wrapper'], after['wrapper'])
