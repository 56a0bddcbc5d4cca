"""Selection before loading, in real trainings, beside that in the step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from torch.utils.data import BatchSampler

from ausam_mm import AUSAM, AUSAMBatchSampler

from ..runs import SIZE, Samples, runner
from ..toy import ToyModel
from .trainings import (
    BATCH,
    EPOCHS,
    LENGTH,
    PAPER,
    SAMPLER,
    SYSTEMATIC,
    WORKERS,
    assert_same,
    state,
    train,
)


@pytest.mark.parametrize('options', [
    dict(),
    dict(wrapper=dict(PAPER, alpha=(0.25, 0.75))),
    dict(wrapper=SYSTEMATIC),
    dict(wrapper=dict(PAPER, scores='uniform')),
    dict(wrapper=dict(PAPER, scores='loss')),
    dict(wrapper=dict(PAPER, accumulative_counts=2)),
    dict(wrapper=dict(SYSTEMATIC, warmup_iters=2, ramp_iters=5),
         by_epoch=False, length=LENGTH),
    dict(by_epoch=False, length=LENGTH),
    dict(by_epoch=False, length=LENGTH, endless=False),
    dict(size=20),
    dict(model=lambda: ToyModel(reduction='sum').double()),
], ids=['paper', 'pair', 'weights', 'uniform', 'loss', 'accumulation',
        'in iterations', 'endless', 'passes', 'incomplete batch', 'sum'])
def test_the_loader_selects_what_the_step_would(tmp_path, options):
    step = train(tmp_path / 'a', in_loader=False, **options)
    loader = train(tmp_path / 'b', **options)
    assert len(step.seen) == len(loader.seen) == step.iter == loader.iter
    fewer = 0
    for one, other in zip(step.seen, loader.seen):
        assert other['loaded'] == len(other['keys']) <= one['loaded']
        fewer += other['loaded'] < one['loaded']
        assert_same(*({**seen, 'loaded': 0} for seen in (one, other)))
    assert fewer > len(step.seen) / 2
    one, other = state(step), state(loader)
    for wrapper in (one[1], other[1]):
        for name in ('samples_loaded', 'batch_sampler'):
            wrapper['ausam_mm'].pop(name, None)
    assert_same(one, other)


# Shared with the processes that load.
LOADED = torch.zeros(SIZE, dtype=torch.int64).share_memory_()


class Counted(Samples):
    """Counts, in whichever process, how often each sample is loaded."""

    def __getitem__(self, i):
        LOADED[i] += 1
        return super().__getitem__(i)


def test_only_perturbed_samples_get_a_known_key_from_uniform_scores(tmp_path):
    train(tmp_path, wrapper=dict(PAPER, scores='uniform'), stop=6)
    resumed = train(tmp_path, resume=True, stop=7)
    sampler = resumed.optim_wrapper.batch_sampler
    perturbed = resumed.seen[0]['keys'][resumed.seen[0]['ascent']]
    known = sampler.keys[sampler.keys >= 0]
    assert sorted(known.tolist()) == sorted(perturbed.tolist())


@pytest.mark.parametrize('workers', [
    dict(),
    dict(num_workers=1, prefetch_factor=2),
    dict(num_workers=2, persistent_workers=True),
], ids=str)
def test_samples_that_are_not_selected_are_not_loaded(tmp_path, workers):
    LOADED.zero_()
    counts = []

    class Epochs(Hook):

        def after_train_epoch(self, runner):
            counts.append(int(LOADED.sum()) - sum(counts))

    run = train(tmp_path, loader=dict(dataset=Counted(), **workers),
                hooks=[Epochs()], wrapper=dict(PAPER, alpha=(0.25, 0.75)))
    assert counts == [SIZE, *[3 * SIZE // 4] * (EPOCHS - 1)]
    assert run.optim_wrapper.samples_loaded == sum(counts)
    assert run.optim_wrapper.samples_offered == SIZE * EPOCHS
    perturbed = sum(len(seen['ascent']) for seen in run.seen)
    assert run.optim_wrapper.samples_backpropagated == sum(counts) + perturbed
    assert perturbed == SIZE + SIZE // 4 * (EPOCHS - 1)


@pytest.mark.parametrize('workers', ['one', 'persistent'])
def test_prefetching_changes_nothing_where_an_epoch_has_each_sample_once(
        tmp_path, workers):
    """The scores are those of the epoch before in any case."""
    options = dict(wrapper=SYSTEMATIC, exact=True)
    one = train(tmp_path / 'a', **options)
    other = train(tmp_path / 'b', loader=WORKERS[workers], **options)
    assert_same(one.seen, other.seen)
    assert_same(state(one), state(other))


def test_schedules_and_auto_scale_lr_see_the_nominal_batch(tmp_path):
    run = train(tmp_path, size=20, auto_scale_lr=dict(
        enable=True, base_batch_size=2 * BATCH))
    assert run.optim_wrapper.get_lr()['lr'] == [0.01]
    assert len(run.train_dataloader) == 3 and run.max_iters == 12
    dropped = train(tmp_path / 'b', size=20, loader=dict(
        batch_sampler=dict(SAMPLER, drop_last=True)), in_loader=False)
    assert len(dropped.train_dataloader) == 2 and dropped.iter == 8
    assert {seen['size'] for seen in dropped.seen} == {BATCH}


def test_one_line_of_the_log_says_that_the_loader_selects(tmp_path, capsys):
    train(tmp_path)
    assert capsys.readouterr().out.count('AUSAMBatchSampler selects') == 1


def test_a_dataset_may_return_the_same_data_sample_twice(tmp_path):
    run = train(tmp_path)
    data = run.train_dataloader.dataset
    batches = list(run.train_dataloader.batch_sampler)
    loaded = [data.__getitems__(indices) for indices in batches * 2]
    for indices, samples in zip(batches * 2, loaded):
        for index, sample in zip(indices, samples):
            assert sample['data_samples'].ausam_entry == index.entry
    assert not any('ausam_entry' in sample for sample in
                   data.data['data_samples'])


# -- what cannot work --


def forgetting(samples):
    """A collate_fn that makes the data samples anew."""
    return dict(
        inputs=torch.stack([sample['inputs'] for sample in samples]),
        data_samples=[type(sample['data_samples'])(
            metainfo=dict(sample_idx=sample['data_samples'].sample_idx),
            gt=sample['data_samples'].gt) for sample in samples])


@pytest.mark.parametrize('options,message', [
    (dict(wrapper=dict(type='SAM', rho=0.1)),
     "another optimizer wrapper trains here: set type='AUSAM'"),
    (dict(wrapper=dict(type='OptimWrapper')),
     "set type='AUSAM' in optim_wrapper, or leave train_dataloader."),
    (dict(loader=dict(batch_sampler=dict(SAMPLER, alpha=0.5)),
          in_loader=False),
     'no option alpha: .* in optim_wrapper'),
    (dict(loader=dict(collate_fn=dict(type=forgetting))),
     'would select from it once more: keep their meta information'),
])
def test_settings_that_cannot_work_are_refused_with_the_remedy(
        tmp_path, options, message):
    wrapper = options.get('wrapper', PAPER)
    run = runner(tmp_path, wrapper)
    run._train_dataloader.update(
        options.get('loader', {}), **(
            {} if 'in_loader' in options else
            dict(batch_sampler=dict(SAMPLER))))
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        run.train()


def test_a_sampler_without_a_dataset_is_refused():
    with pytest.raises(ValueError, match='give it an attribute `dataset`'):
        AUSAMBatchSampler(iter([1, 2]), 2)


def test_a_sampler_outside_of_the_training_is_refused(tmp_path):
    run = train(tmp_path)
    other = AUSAMBatchSampler(DefaultSampler(Samples()), BATCH)
    with pytest.raises(ValueError, match='in train_dataloader alone'):
        next(iter(other))
    assert isinstance(run.optim_wrapper, AUSAM)


@given(st.integers(1, 30), st.integers(1, 9), st.booleans())
def test_the_length_is_the_number_of_nominal_batches(
        size, batch_size, drop_last):
    sampler = DefaultSampler(Samples(size=size))
    assert len(AUSAMBatchSampler(sampler, batch_size, drop_last)) == len(
        BatchSampler(sampler, batch_size, drop_last))


def test_the_checkpoint_has_what_was_selected_last_and_is_not_trained():
    sampler = AUSAMBatchSampler(DefaultSampler(Samples(), shuffle=False), 8)
    none = torch.empty(0, dtype=torch.int64)

    def learn(*numbers):
        """Selections of all processes, which batches have these numbers."""
        rows = torch.zeros(len(numbers), 9, dtype=torch.float64)
        rows[:, 1] = torch.tensor(numbers)
        sampler._new_rows = [rows]
        sampler.learn(none, none)
        return sampler.state_dict()['pending'][:, 1].tolist()

    assert learn(0, 1, 0, 2) == [0, 0, 1, 2]
    assert learn() == [0, 0, 1, 2]
    assert learn(1, 3) == [0, 0, 1, 3]  # selected again from 1 on
    sampler.trained = 1
    assert learn(4) == [1, 3, 4]
    other = AUSAMBatchSampler(DefaultSampler(Samples(), shuffle=False), 8)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.state_dict()['pending'],
                       sampler.state_dict()['pending'])
