"""Selection before loading from datasets of every kind."""

import pytest
import torch
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
)
from mmengine.hooks import Hook
from torch.utils.data import Subset

from ausam_mm.sampling.origins import Origins

from ..runs import SIZE
from ..toy import ToyModel, batch
from .trainings import (
    BATCH,
    LENGTH,
    PAPER,
    SYSTEMATIC,
    assert_same,
    train,
)


class Listed(BaseDataset):
    """A BaseDataset of some samples, of which some cannot be loaded."""

    def __init__(self, size=SIZE, broken=(), first=0, **kwargs):
        self.size, self.broken, self.first = size, broken, first
        self.data = batch(size=size, first_index=first)
        # Not serialized: MMEngine collects garbage there, at each dataset.
        super().__init__(pipeline=[self.pack], max_refetch=100,
                         serialize_data=False, **kwargs)

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
def test_an_index_restarts_in_datasets_that_are_joined(name):
    assert Origins(WRAPPED[name]()).restarts_index == (
        name in ('concat', 'nested'))
    joined = Subset(WRAPPED['concat'](), range(3))
    assert Origins(joined).restarts_index
    assert Origins(several_sources()).restarts_index
    assert not Origins(ConcatDataset([Listed(8)])).restarts_index


@pytest.mark.parametrize('name,by_epoch', [
    *((name, True) for name in WRAPPED), ('repeat', False),
    ('nested', False)])
def test_wrapped_datasets_are_selected_from_as_in_the_step(
        tmp_path, name, by_epoch):
    options = dict(by_epoch=by_epoch, length=3 if by_epoch else 16,
                   model=lambda: ToyModel().double())
    step = train(tmp_path / 'a', in_loader=False,
                 loader=dict(dataset=WRAPPED[name]()), **options)
    loader = train(tmp_path / 'b',
                   loader=dict(dataset=WRAPPED[name]()), **options)
    assert_same([seen['keys'] for seen in step.seen],
                [seen['keys'] for seen in loader.seen])
    tables = [run.optim_wrapper.history.state_dict() for run in (step, loader)]
    if Origins(WRAPPED[name]()).restarts_index:
        # The loader knows the samples by their numbers.
        assert set(tables[1]['keys'].tolist()) <= set(range(16))
        for table in tables:
            del table['keys']
            table.update(means=table['means'].sort().values,
                         counts=table['counts'].sort().values)
    assert_same(*tables)


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
def test_samplers_of_mmpose_and_mmpretrain_are_selected_from_as_in_the_step(
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
    step = train(tmp_path / 'a', in_loader=False,
                 loader=dict(dataset=data(), sampler=chosen), **options)
    loader = train(tmp_path / 'b',
                   loader=dict(dataset=data(), sampler=chosen), **options)
    assert {seen['loaded'] for seen in loader.seen[-3:]} <= {6, 3}
    for one, other in zip(step.seen, loader.seen):
        assert_same(*({**seen, 'loaded': 0} for seen in (one, other)))


# -- batches that are not trained as they were selected --


def counted(run):
    """How often each sample was scored, by its number."""
    history = run.optim_wrapper.history
    table = history.state_dict()
    assert table['means'].isfinite().all()
    return dict(zip(table['keys'].tolist(),
                    history.counts(table['keys']).tolist()))


def test_a_sample_that_cannot_be_loaded_is_not_scored(tmp_path):
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
    # What is left of a full batch is a full one of fewer samples.
    for seen in run.seen[:3]:
        assert seen['size'] == seen['loaded'] <= BATCH
    for seen in run.seen[3:]:
        assert seen['size'] == BATCH
        if wrapper is SYSTEMATIC:
            # 1 / (b * pi), each pi at most 1.
            assert len(seen['weights'][0]) == len(seen['keys'])
            assert (seen['weights'][0] >= 1 / BATCH - 1e-12).all()


def test_a_skipped_step_changes_no_scores(tmp_path):

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


def test_a_batch_that_is_not_trained_does_not_stop_the_selection(tmp_path):

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
