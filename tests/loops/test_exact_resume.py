"""Interrupted trainings end like those that were not."""

import gc
import pickle

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from ausam_mm.loops.exact_resume import _Batch

from ..amp import CPUAmpOptimWrapper
from ..runs import (
    SIZE,
    Samples,
    Stop,
    runner,
    scalars,
)
from ..toy import ToyModel

AUSAM = dict(type='AUSAM', rho=0.1, alpha=0.5, warmup_iters=2, ramp_iters=6)
LENGTH = 12
VARIANTS = dict(
    epochs=dict(by_epoch=True, length=4),
    iterations=dict(by_epoch=False, length=LENGTH),
    passes=dict(by_epoch=False, length=LENGTH, endless=False),
)


def train(work_dir, stop=None, wrapper=AUSAM, hooks=(), loader=None,
          **options):
    """Trains by a loop of exact resume, with a loader of its own if any."""
    options = {**dict(noise=0.5, exact=True, checkpoints_by_epoch=False),
               **options}
    hooks = [*hooks, Stop(stop)] if stop else hooks
    run = runner(work_dir, wrapper, custom_hooks=[*hooks], **options)
    run._train_dataloader = loader or run._train_dataloader
    try:
        run.train()
    except KeyboardInterrupt:
        assert stop
    return run


def assert_same_ending(whole, resumed, stop):
    """Weights, momentum, table, counters, and what was logged since."""
    states = [[run.model.state_dict(), run.optim_wrapper.state_dict()]
              for run in (whole, resumed)]
    reductions = [state[1].get('ausam_mm', {}).pop('loss_modules', None)
                  for state in states]
    assert reductions[0] == reductions[1]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    lines = [[{name: value for name, value in line.items()
               if 'time' not in name} for line in scalars(run)][stop - LENGTH:]
             for run in (whole, resumed)]
    assert lines[0] == lines[1] and len(lines[0]) == LENGTH - stop


@pytest.mark.parametrize('stop', [1, 4, 6, 11])
@pytest.mark.parametrize('variant', VARIANTS)
def test_a_stopped_training_ends_as_if_it_had_not_been(
        tmp_path, variant, stop):
    """With workers, and by SIGKILL, in tests/tools."""
    options = VARIANTS[variant]
    whole = train(tmp_path / 'whole', **options)
    train(tmp_path / 'stopped', stop, **options)
    resumed = train(tmp_path / 'stopped', resume=True, **options)
    assert resumed.iter == LENGTH
    assert_same_ending(whole, resumed, stop)


@pytest.mark.parametrize('options', [
    dict(checkpoints_by_epoch=True),
    dict(wrapper=dict(AUSAM, accumulative_counts=2), interval=2),
    dict(wrapper=dict(AUSAM, base=dict(
        type=CPUAmpOptimWrapper, dtype='float16')),
        model=lambda: ToyModel(norm=True, dropout=0.1)),
    dict(wrapper=dict(type='OptimWrapper')),
    dict(seed=None),
], ids=['epoch checkpoints', 'accumulation', 'amp', 'plain', 'no seed'])
def test_a_resume_is_exact_with_every_kind_of_step(tmp_path, options):
    options = dict(options)
    make = options.pop('model', lambda: None)
    stopped = train(tmp_path / 'run', 8, model=make(), **options)
    seed = stopped.seed
    resumed = train(tmp_path / 'run', resume=True, model=make(), **options)
    whole = train(tmp_path / 'whole', model=make(), **dict(options, seed=seed))
    # An epoch's checkpoint was written two iterations before the crash.
    assert_same_ending(whole, resumed, 6 if 'checkpoints_by_epoch' in options
                       else 8)


@pytest.fixture
def quick_workers(monkeypatch):
    """PyTorch waits for workers whose batches nobody took."""
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL',
                        0.2)
    yield
    gc.collect()


class Batched(Samples):
    """Samples that are loaded a batch at a time."""

    def __getitems__(self, indices):
        return [self[i] for i in indices]


def collate(samples):
    return {name: [sample[name] for sample in samples]
            for name in ('inputs', 'data_samples')}


LOADERS = dict(
    shuffled=lambda data: DataLoader(
        data, batch_size=8, shuffle=True, collate_fn=collate),
    ordered=lambda data: DataLoader(
        data, collate_fn=collate,
        batch_sampler=BatchSampler(range(SIZE), 8, drop_last=True)),
    workers=lambda data: DataLoader(
        data, batch_size=8, shuffle=True, collate_fn=collate, num_workers=2,
        persistent_workers=True),
)


@pytest.mark.parametrize('variant', ['epochs', 'passes'])
@pytest.mark.parametrize('kind', LOADERS)
@pytest.mark.parametrize('dataset', [Samples, Batched])
def test_a_loader_that_was_built_before_is_resumed_exactly_and_left_as_it_was(
        tmp_path, quick_workers, dataset, kind, variant):

    def loader():
        return LOADERS[kind](dataset(noise=0.5))

    options = VARIANTS[variant]
    whole = train(tmp_path / 'whole', loader=loader(), **options)
    given = loader()
    before = [dict(vars(part)) for part in (given, given.dataset)]
    train(tmp_path / 'run', 5, loader=given, **options)
    assert [vars(part) for part in (given, given.dataset)] == before
    resumed = train(tmp_path / 'run', resume=True, loader=loader(), **options)
    assert resumed.train_dataloader.batch_size == given.batch_size
    assert_same_ending(whole, resumed, 5)


class Batches(Hook):
    """Keeps the inputs of each batch."""

    def __init__(self):
        self.inputs = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.inputs.append(torch.stack(data_batch['inputs']))


@pytest.mark.parametrize('variant', ['epochs', 'passes'])
def test_a_loader_that_shuffles_does_so_anew_in_each_pass(tmp_path, variant):
    batches = Batches()
    train(tmp_path, hooks=[batches], loader=LOADERS['shuffled'](Samples()),
          **VARIANTS[variant])
    passes = torch.stack(batches.inputs).view(4, SIZE, -1)
    for one, two in zip(passes, passes[1:]):
        assert not torch.equal(one, two)
        assert torch.equal(one.unique(dim=0), two.unique(dim=0))


class Replace(Hook):
    """Gives the loop another loader, as hooks that switch pipelines do."""

    def before_train_epoch(self, runner):
        if runner.epoch == 2:
            runner.train_loop.dataloader = Runner.build_dataloader(
                dict(batch_size=8, num_workers=0, dataset=Samples(2.),
                     sampler=dict(type='DefaultSampler', shuffle=True)),
                seed=7)


def test_a_resume_is_exact_with_a_loader_that_a_hook_has_replaced(tmp_path):
    whole = train(tmp_path / 'whole', hooks=[Replace()])
    train(tmp_path / 'run', 8, hooks=[Replace()])
    resumed = train(tmp_path / 'run', resume=True, hooks=[Replace()])
    assert_same_ending(whole, resumed, 8)


def test_a_batch_of_indices_seeds_once_and_not_where_it_is_sent_from():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    received = [pickle.loads(pickle.dumps(_Batch([3, 4], 0, 1, number)))
                for number in (2, 2, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    drawn = []
    for batch in received:
        assert batch[1] == 4 and len(batch) == 2
        drawn.append(torch.rand(()))
        assert list(batch) == [3, 4]
        assert torch.rand(()) != drawn[-1]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize('by_epoch,rest', [
    (True, 0),
    # To this checkpoint the second epoch is not over: two batches are new.
    (False, 2),
])
def test_data_added_between_runs_are_all_trained(tmp_path, by_epoch, rest):
    options = dict(checkpoints_by_epoch=by_epoch)
    train(tmp_path, length=2, **options)
    more = train(tmp_path, length=4, size=SIZE + 16, resume=True, **options)
    # Two epochs of three batches, and two of five.
    assert more.iter == 2 * 3 + rest + 2 * 5
    assert len(more.optim_wrapper.history) > SIZE


def test_mmengines_own_loop_starts_the_epoch_anew(tmp_path):
    options = dict(VARIANTS['epochs'], exact=False)
    train(tmp_path, 4, **options)
    resumed = train(tmp_path, resume=True, **options)
    assert resumed.iter == LENGTH + 1


class Stream(IterableDataset):

    def __iter__(self):
        yield from ()

    def __len__(self):
        return 1


class OtherLoader(DataLoader):
    pass


@pytest.mark.parametrize('loader,message', [
    (DataLoader(Stream()), 'Stream, an IterableDataset: use a dataset with'),
    (OtherLoader(Samples()), 'not of a OtherLoader: give train_dataloader as'),
    (DataLoader(Samples(), batch_size=None),
     'with batch_size=None the loader makes none: set train_dataloader'),
])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_batches_without_an_order_are_refused(
        tmp_path, by_epoch, loader, message):
    with pytest.raises(TypeError, match=message):
        train(tmp_path, by_epoch=by_epoch, loader=loader)
