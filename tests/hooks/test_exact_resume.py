"""Interrupted trainings end like those that were not."""

import pytest
import torch
from torch.utils.data import IterableDataset

from ..amp import CPUAmpOptimWrapper
from ..runs import SIZE, Stop, runner, scalars
from ..toy import ToyModel

AUSAM = dict(type='AUSAM', rho=0.1, alpha=0.5, warmup_iters=2, ramp_iters=6)
EXACT = dict(type='ExactResumeHook')
LENGTH = 12
VARIANTS = dict(
    epochs=dict(by_epoch=True, length=4),
    iterations=dict(by_epoch=False, length=LENGTH),
    passes=dict(by_epoch=False, length=LENGTH, endless=False),
)


def train(work_dir, hooks, stop=None, wrapper=AUSAM, **options):
    options = {**dict(noise=0.5, checkpoints_by_epoch=False), **options}
    hooks = [*hooks, Stop(stop)] if stop else hooks
    run = runner(work_dir, wrapper, custom_hooks=hooks, **options)
    try:
        run.train()
    except KeyboardInterrupt:
        assert stop
    return run


def assert_same_ending(whole, resumed, stop):
    """Weights, momentum, table, counters, and what was logged since."""
    states = [[run.model.state_dict(), run.optim_wrapper.state_dict()]
              for run in (whole, resumed)]
    reductions = [state[1].get('ausam_mm', {}).pop('reductions', None)
                  for state in states]
    assert reductions[0] == reductions[1]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    lines = [[{name: value for name, value in line.items()
               if 'time' not in name} for line in scalars(run)][stop - LENGTH:]
             for run in (whole, resumed)]
    assert lines[0] == lines[1] and len(lines[0]) == LENGTH - stop


@pytest.mark.parametrize('stop', [1, 4, 6, 11])
@pytest.mark.parametrize('variant', VARIANTS)
def test_a_training_ends_as_if_it_had_not_been_stopped(
        tmp_path, variant, stop):
    """With workers, and by SIGKILL, in tests/tools."""
    options = VARIANTS[variant]
    whole = train(tmp_path / 'whole', [EXACT], **options)
    train(tmp_path / 'stopped', [EXACT], stop, **options)
    resumed = train(tmp_path / 'stopped', [EXACT], resume=True, **options)
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
def test_so_does_one_with(tmp_path, options):
    options = dict(options)
    make = options.pop('model', lambda: None)
    stopped = train(tmp_path / 'run', [EXACT], 8, model=make(), **options)
    seed = stopped.seed
    resumed = train(tmp_path / 'run', [EXACT], resume=True, model=make(),
                    **options)
    whole = train(tmp_path / 'whole', [EXACT], model=make(),
                  **dict(options, seed=seed))
    # An epoch's checkpoint was written two iterations before the crash.
    assert_same_ending(whole, resumed, 6 if 'checkpoints_by_epoch' in options
                       else 8)


@pytest.mark.parametrize('by_epoch,rest', [
    (True, 0),
    # To this checkpoint the second epoch is not over: two batches are new.
    (False, 2),
])
def test_data_added_between_runs_are_all_trained(tmp_path, by_epoch, rest):
    options = dict(checkpoints_by_epoch=by_epoch)
    train(tmp_path, [EXACT], length=2, **options)
    more = train(tmp_path, [EXACT], length=4, size=SIZE + 16, resume=True,
                 **options)
    # Two epochs of three batches, and two of five.
    assert more.iter == 2 * 3 + rest + 2 * 5
    assert len(more.optim_wrapper.history) > SIZE


def test_without_the_hook_mmengine_starts_the_epoch_anew(tmp_path):
    options = VARIANTS['epochs']
    train(tmp_path, [], 4, **options)
    resumed = train(tmp_path, [], resume=True, **options)
    assert resumed.iter == LENGTH + 1


def test_iterable_datasets_are_refused(tmp_path):

    class Stream(IterableDataset):

        def __iter__(self):
            yield from ()

        def __len__(self):
            return 1

    run = runner(tmp_path, AUSAM, custom_hooks=[EXACT])
    run._train_dataloader = torch.utils.data.DataLoader(Stream())
    run._train_loop = dict(by_epoch=False, max_iters=3)
    with pytest.raises(TypeError, match='Stream, an IterableDataset: use a'):
        run.train()
