"""Selection before loading, in real trainings, beside that in the step."""

import gc
import logging
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    RepeatDataset,
)
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from torch.utils.data import BatchSampler, Subset

from ausam_mm import AUSAM, AUSAMBatchSampler
from ausam_mm.sampling import sample_keys
from ausam_mm.sampling.origins import Origins

from ..processes import launch
from ..runs import SIZE, Samples, Stop, one_thread, runner  # noqa: F401
from ..toy import ToyModel, batch, build

pytestmark = pytest.mark.usefixtures('one_thread', 'no_pause')

BATCH, EPOCHS, LENGTH = 8, 4, 12
PAPER = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=2, seed=3)
SYSTEMATIC = dict(
    PAPER, alpha=(0.25, 0.75), sampling='systematic',
    weighting='inverse_probability')
DRAWING = dict(type='AUSAMBatchSampler')
WORKERS = dict(
    none=dict(),
    one=dict(num_workers=1, prefetch_factor=3),
    persistent=dict(num_workers=2, persistent_workers=True))


@pytest.fixture
def no_pause(monkeypatch):
    """Waits for nothing that takes seconds.

    MMEngine's loop of iterations sleeps before another pass, and PyTorch
    waits for workers whose batches nobody took.
    """
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda s: None)
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL',
                        0.2)
    yield
    gc.collect()


class Steps(Hook):
    """What each step saw: keys, first pass, weights, losses, batch size."""

    def __init__(self):
        self.seen = []

    def before_train(self, runner):
        wrapper, observe = runner.optim_wrapper, runner.optim_wrapper.observe

        def spy(step):
            selection = step.selection
            self.seen.append(dict(
                loaded=selection.loaded, size=selection.size,
                keys=sample_keys(self.data)[selection.descent],
                ascent=selection.ascent_in_descent,
                weights=[selection.descent_weights, selection.ascent_weights],
                effective=selection.effective_size,
                losses=[step.first.losses, step.second.losses]))
            observe(step)

        wrapper.observe = spy

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.data = data_batch


def train(work_dir, wrapper=PAPER, drawing=True, stop=None, hooks=(),
          model=lambda: ToyModel(norm=True).double(), **options):
    """Trains, and returns the Runner with the steps in ``run.seen``."""
    torch.manual_seed(0)
    steps = Steps()
    hooks = [steps, *hooks, *([Stop(stop)] if stop else [])]
    loader = options.pop('loader', {})
    options = {**dict(length=EPOCHS), **options}
    run = runner(work_dir, wrapper, custom_hooks=hooks,
                 model=model(), **options)
    run._train_dataloader.update(
        loader, **(dict(batch_sampler=dict(DRAWING)) if drawing else {}))
    run.seen = steps.seen
    try:
        run.train()
    except KeyboardInterrupt:
        assert stop
    return run


def state(run):
    """Weights and everything that the wrapper keeps."""
    wrapper = run.optim_wrapper.state_dict()
    assert wrapper['ausam_mm'].pop('reductions')
    return [run.model.state_dict(), wrapper]


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@contextmanager
def messages():
    """The records of the current log."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    MMLogger.get_current_instance().addHandler(handler)
    yield records


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
def test_it_draws_what_the_step_would(tmp_path, options):
    step = train(tmp_path / 'a', drawing=False, **options)
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


def test_a_random_subset_says_nothing_of_who_is_who(tmp_path):
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
def test_what_is_not_drawn_is_not_loaded(tmp_path, workers):
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
def test_prefetching_changes_nothing_where_an_epoch_has_a_sample_once(
        tmp_path, workers):
    """A sample is drawn by its score of the epoch before in any case."""
    options = dict(wrapper=SYSTEMATIC, exact=True)
    one = train(tmp_path / 'a', **options)
    other = train(tmp_path / 'b', loader=WORKERS[workers], **options)
    assert_same(one.seen, other.seen)
    assert_same(state(one), state(other))


def test_the_nominal_batch_is_what_others_see(tmp_path):
    with messages() as said:
        run = train(
            tmp_path, size=20, auto_scale_lr=dict(
                enable=True, base_batch_size=2 * BATCH))
    assert run.optim_wrapper.get_lr()['lr'] == [0.01]
    assert len(run.train_dataloader) == 3 and run.max_iters == 12
    assert sum('AUSAMBatchSampler selects' in line for line in said) <= 1
    dropped = train(tmp_path / 'b', size=20, loader=dict(
        batch_sampler=dict(DRAWING, drop_last=True)), drawing=False)
    assert len(dropped.train_dataloader) == 2 and dropped.iter == 8
    assert {seen['size'] for seen in dropped.seen} == {BATCH}


def test_one_line_says_that_the_loader_selects(tmp_path, capsys):
    train(tmp_path)
    assert capsys.readouterr().out.count('AUSAMBatchSampler selects') == 1


LOOPS = dict(
    epochs=dict(),
    iterations=dict(by_epoch=False, length=LENGTH),
    passes=dict(by_epoch=False, length=LENGTH, endless=False))


@pytest.mark.parametrize('loop,workers,stop', [
    ('epochs', 'none', 4), ('epochs', 'one', 5), ('epochs', 'persistent', 7),
    ('iterations', 'none', 9), ('iterations', 'one', 5),
    ('passes', 'none', 4), ('passes', 'one', 10)])
def test_a_stopped_training_ends_as_if_it_had_not_been(
        tmp_path, loop, stop, workers):
    options = dict(
        LOOPS[loop], loader=WORKERS[workers], checkpoints_by_epoch=False,
        noise=0.5, wrapper=dict(SYSTEMATIC, warmup_iters=2, ramp_iters=8))
    whole = train(tmp_path / 'a', exact=True, **options)
    train(tmp_path / 'b', exact=True, stop=stop, **options)
    resumed = train(tmp_path / 'b', exact=True, resume=True, **options)
    assert_same(whole.seen[stop:], resumed.seen)
    assert_same(state(whole), state(resumed))


def test_so_does_one_that_is_stopped_twice(tmp_path):
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
def test_so_it_does_where_mmengine_loads_again_what_was_trained(
        tmp_path, endless, workers):
    options = dict(
        by_epoch=False, length=LENGTH, endless=endless,
        loader=WORKERS[workers], wrapper=dict(
            SYSTEMATIC, warmup_iters=2, ramp_iters=8))
    whole = train(tmp_path / 'a', **options)
    train(tmp_path / 'b', stop=5, **options)
    resumed = train(tmp_path / 'b', resume=True, **options)
    assert_same(whole.seen[5:], resumed.seen)


def test_an_epoch_that_starts_anew_after_a_resume_is_drawn_from(tmp_path):
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
def test_a_table_goes_over_to_the_other_way_of_drawing(tmp_path, first):
    train(tmp_path, drawing=first, stop=6)
    before = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    table = before['optimizer']['ausam_mm']['history']
    resumed = train(tmp_path, drawing=not first, resume=True)
    history = resumed.optim_wrapper.history
    assert len(table['keys']) == SIZE == len(history)
    assert (history.counts(table['keys']) >= table['counts']).all()
    assert sum(history.counts(table['keys'])) == sum(table['counts']) + 24
    if not first:  # which sample an index stands for is learnt meanwhile
        known = set(resumed.optim_wrapper.batch_sampler.keys.tolist())
        perturbed = torch.cat([seen['keys'][seen['ascent']]
                             for seen in resumed.seen])
        assert known & set(table['keys'].tolist()) == set(perturbed.tolist())


def test_data_added_between_runs_are_trained(tmp_path):
    train(tmp_path, stop=6)
    resumed = train(tmp_path, resume=True, size=SIZE + 16, length=8)
    assert len(resumed.optim_wrapper.history) == SIZE + 16
    assert {seen['loaded'] for seen in resumed.seen} == {4}


# -- datasets and samplers --


class Listed(BaseDataset):
    """A BaseDataset of some samples, of which some cannot be loaded."""

    def __init__(self, size=SIZE, broken=(), first=0, **kwargs):
        self.size, self.broken, self.first = size, broken, first
        self.data = batch(size=size, first_index=first)
        super().__init__(pipeline=[self.pack], max_refetch=100, **kwargs)

    def load_data_list(self):
        return [dict(number=i) for i in range(self.size)]

    def get_cat_ids(self, i):
        return [0 if i < 3 else 1]

    def pack(self, info):
        i = info['number']
        return None if i in self.broken else dict(
            inputs=self.data['inputs'][i],
            data_samples=self.data['data_samples'][i].clone())


# ClassBalancedDataset makes copies of the three samples of the rare class.
WRAPPED = dict(
    repeat=lambda: RepeatDataset(Listed(8), times=3),
    balanced=lambda: ClassBalancedDataset(Listed(12), oversample_thr=0.8),
    concat=lambda: ConcatDataset(
        [Listed(8), dict(type=RepeatDataset, times=2,
                         dataset=Listed(8, first=100))]),
    nested=lambda: RepeatDataset(dict(type=ConcatDataset, datasets=[
        dict(type=ClassBalancedDataset, dataset=Listed(10),
             oversample_thr=0.8), Listed(5, first=50)]), times=2),
    subset=lambda: Subset(Listed(), range(3, 21)))


@pytest.mark.parametrize('name', WRAPPED)
def test_copies_of_a_sample_have_one_number(name):
    data = WRAPPED[name]()
    origins = Origins(data)
    found = {}
    for i in range(len(data)):
        sample = data[i]['data_samples'].sample_idx
        assert found.setdefault(origins(i), sample) == sample
    assert len(set(found.values())) == len(found) == len(origins)
    assert set(found) == set(range(len(found)))
    indices = torch.arange(len(data))
    assert origins.of(indices).tolist() == [origins(i) for i in
                                            range(len(data))]


@pytest.mark.parametrize('name', WRAPPED)
@pytest.mark.parametrize('by_epoch', [True, False])
def test_wrapped_datasets_are_drawn_from_as_in_the_step(
        tmp_path, name, by_epoch):
    options = dict(by_epoch=by_epoch, length=3 if by_epoch else 16,
                   model=lambda: ToyModel().double())
    step = train(tmp_path / 'a', drawing=False,
                 loader=dict(dataset=WRAPPED[name]()), **options)
    loader = train(tmp_path / 'b',
                   loader=dict(dataset=WRAPPED[name]()), **options)
    assert_same([seen['keys'] for seen in step.seen],
                [seen['keys'] for seen in loader.seen])
    assert_same(step.optim_wrapper.history.state_dict(),
                loader.optim_wrapper.history.state_dict())


def several_sources():
    from mmpose.datasets import CombinedDataset

    parts = [dict(type=Listed, size=16), dict(type=Listed, size=12, first=100)]
    return CombinedDataset(
        dict(dataset_name='listed', keypoint_info={}, skeleton_info={},
             joint_weights=[], sigmas=[]), parts,
        pipeline=[lambda info: {name: info[name]
                                for name in ('inputs', 'data_samples')}])


@pytest.mark.parametrize('sampler', ['MultiSourceSampler',
                                     'RepeatAugSampler'])
def test_the_samplers_of_mmpose_and_mmpretrain_stay_underneath(
        tmp_path, sampler):
    import mmpose.datasets  # noqa: F401
    import mmpretrain.datasets  # noqa: F401
    if sampler == 'MultiSourceSampler':
        data = several_sources
        chosen = dict(type='mmpose.MultiSourceSampler', batch_size=BATCH,
                      source_ratio=[3, 1], seed=0)
    else:
        data = lambda: Listed(256)  # noqa: E731
        chosen = dict(type='mmpretrain.RepeatAugSampler', seed=0)
    options = dict(wrapper=SYSTEMATIC, length=3)
    step = train(tmp_path / 'a', drawing=False,
                 loader=dict(dataset=data(), sampler=chosen), **options)
    loader = train(tmp_path / 'b',
                   loader=dict(dataset=data(), sampler=chosen), **options)
    assert {seen['loaded'] for seen in loader.seen[-3:]} <= {6, 3}
    for one, other in zip(step.seen, loader.seen):
        assert_same(*({**seen, 'loaded': 0} for seen in (one, other)))


# -- feedback that does not come --


def counted(run):
    """How often each sample was scored, by its number."""
    table = run.optim_wrapper.history.state_dict()
    assert table['means'].isfinite().all()
    return dict(zip(table['keys'].tolist(), table['counts'].tolist()))


def test_a_sample_that_cannot_be_loaded_leaves_the_table_right(tmp_path):
    run = train(tmp_path, loader=dict(
        dataset=Listed(broken=(2, 9)), num_workers=1))
    counts = counted(run)
    # Another one was loaded in its place, and that one was scored.
    assert set(counts) == set(range(SIZE)) - {2, 9}
    assert sum(counts.values()) == sum(len(s['ascent']) for s in run.seen)
    known = run.optim_wrapper.batch_sampler.keys.tolist()
    assert all(known[i] == i for i in counts)


def without_multiples_of_five(samples):
    """A collate_fn that drops samples."""
    kept = [sample for sample in samples
            if sample['data_samples'].sample_idx % 5]
    return {name: [sample[name] for sample in kept] for name in kept[0]}


@pytest.mark.parametrize('wrapper', [PAPER, SYSTEMATIC], ids=['none', 'ipw'])
def test_a_filtered_sample_takes_its_weight_along(tmp_path, wrapper):
    run = train(tmp_path, wrapper=wrapper, loader=dict(
        collate_fn=dict(type=without_multiples_of_five)),
        model=lambda: ToyModel().double())
    counts = counted(run)
    assert set(counts) == {i for i in range(SIZE) if i % 5}
    assert sum(counts.values()) == sum(len(s['ascent']) for s in run.seen)
    # What is left of a whole batch is a whole one of fewer samples.
    for seen in run.seen[:3]:
        assert seen['size'] == seen['loaded'] <= BATCH
    for seen in run.seen[3:]:
        assert seen['size'] == BATCH
        if wrapper is SYSTEMATIC:
            # 1 / (b * pi), each pi at most 1.
            assert len(seen['weights'][0]) == len(seen['keys'])
            assert (seen['weights'][0] >= 1 / BATCH - 1e-12).all()


def test_a_step_that_is_skipped_teaches_nothing(tmp_path):

    class Overflow(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 7:
                data_batch['inputs'][0].fill_(float('inf'))

    data = Listed()
    run = train(tmp_path, loader=dict(dataset=data), hooks=[Overflow()])
    assert run.optim_wrapper.skipped_steps == 1
    counts = counted(run)
    assert sum(counts.values()) == sum(len(s['ascent']) for s in run.seen) - 4
    assert run.optim_wrapper.batch_sampler.trained == run.iter == LENGTH


def test_a_batch_that_is_not_trained_does_not_stop_the_draws(tmp_path):

    class Broken(ToyModel):

        def train_step(self, data, optim_wrapper):
            self.calls = getattr(self, 'calls', 0) + 1
            if self.calls == 5:
                return dict(loss=torch.tensor(0.))
            return super().train_step(data, optim_wrapper)

    run = train(tmp_path, model=lambda: Broken(norm=True).double())
    assert run.optim_wrapper.num_steps == LENGTH - 1
    assert [seen['loaded'] for seen in run.seen] == [8] * 3 + [4] * 8
    assert sum(counted(run).values()) == SIZE + 8 * 4


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


# -- processes --


def in_a_process(folder, options):
    """A whole training, and one that stops and resumes."""
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


def test_processes_draw_alike_many_and_share_the_table(tmp_path):
    whole, _, resumed = zip(*launch(in_a_process, 2, tmp_path, dict(
        wrapper=SYSTEMATIC, size=44, checkpoints_by_epoch=False,
        exact=True, loader=WORKERS['one'])))
    one, two = whole
    assert_same(one['weights'], two['weights'])
    assert_same(one['wrapper'], two['wrapper'])
    # 22 samples each: batches of 8, 8 and 6, and of 6, 6 and 4 of them.
    loaded = [[seen['loaded'] for seen in run['seen']] for run in whole]
    assert loaded[0] == loaded[1] == [8, 8, 6] + [6, 6, 4] * 3
    assert [a['keys'] for a in one['seen']] != [b['keys'] for b in two['seen']]
    assert len(one['wrapper']['history']['keys']) == 44
    assert sorted(one['wrapper']['batch_sampler']['keys'].tolist()) == \
        list(range(44))
    for before, after in zip(whole, resumed):
        assert_same(before['seen'][7:], after['seen'])
        assert_same(before['wrapper'], after['wrapper'])


# -- what cannot work --


class Forgetful(Samples):
    """Its data samples say nothing more than what they are."""

    def __getitem__(self, i):
        return dict(inputs=self.data['inputs'][i], data_samples=i)


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
    (dict(loader=dict(batch_sampler=dict(DRAWING, alpha=0.5)), drawing=False),
     'no option alpha: .* in optim_wrapper'),
    (dict(loader=dict(collate_fn=dict(type=forgetting))),
     'would select from it once more: keep their meta information'),
    (dict(loader=dict(dataset=Forgetful())),
     'the dataset has none: return a dict with `inputs`'),
])
def test_what_cannot_work_is_refused_with_the_remedy(
        tmp_path, options, message):
    wrapper = options.get('wrapper', PAPER)
    run = runner(tmp_path, wrapper)
    run._train_dataloader.update(
        options.get('loader', {}), **(
            {} if 'drawing' in options else
            dict(batch_sampler=dict(DRAWING))))
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        run.train()


def test_a_sampler_without_a_dataset_is_refused():
    with pytest.raises(ValueError, match='give it an attribute `dataset`'):
        AUSAMBatchSampler(iter([1, 2]), 2)


def test_only_the_training_may_select(tmp_path):
    run = train(tmp_path)
    other = AUSAMBatchSampler(DefaultSampler(Samples()), BATCH)
    with pytest.raises(ValueError, match='in train_dataloader alone'):
        next(iter(other))
    assert isinstance(run.optim_wrapper, AUSAM)


@given(st.integers(1, 30), st.integers(1, 9), st.booleans())
def test_its_length_is_that_of_the_whole_batches(size, batch_size, drop_last):
    sampler = DefaultSampler(Samples(size=size))
    assert len(AUSAMBatchSampler(sampler, batch_size, drop_last)) == len(
        BatchSampler(sampler, batch_size, drop_last))
