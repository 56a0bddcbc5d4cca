"""Two and four gloo processes: what they share and what they agree on."""

import re
import time
from functools import partial
from itertools import count

import pytest
import torch
import torch.distributed as dist
from mmengine.model import (
    MMDistributedDataParallel,
    MMSeparateDistributedDataParallel,
)
from mmengine.runner import FlexibleRunner
from torch import nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from ..processes import CPU, launch, shard, unsharded_weights
from ..runs import SIZE, Samples
from ..toy import ToyModel, batch, build, wrap

STEPS = 6
AUSAM = dict(type='AUSAM', rho=0.3, alpha=0.5, warmup_iters=1)
DDP_OPTIONS = dict(
    default={},
    unused=dict(find_unused_parameters=True),
    buckets=dict(gradient_as_bucket_view=True),
    static=dict(static_graph=True),
    anomalous=dict(detect_anomalous_params=True),
    buffers=dict(broadcast_buffers=False),
)


def data_of(rank, step, size=16):
    return batch(seed=100 * rank + step, size=size, first_index=16 * rank)


def ddp_training(ddp=None, data=data_of, steps=STEPS, model=None,
                 first_synchronized=False, **options):
    """Trains on every process; returns what one of them has at the end."""
    rank = dist.get_rank()
    model = model or build(norm=True)
    outer = MMDistributedDataParallel(model, **(ddp or {}))
    wrapper = wrap(model, **options)
    wrapper.initialize_count_status(model, 0, steps)
    weights = []
    for step in range(steps):
        if first_synchronized:
            wrapper.sync_perturbation = step == 0
        outer.train_step(data(rank, step), wrapper)
        weights.append(
            torch.cat([p.detach().flatten() for p in model.parameters()]))
    result = dict(
        weights=weights, statistics=model.state_dict(),
        skipped=(wrapper.skipped_perturbations, wrapper.skipped_steps))
    if options['type'] == 'AUSAM':
        result['table'] = wrapper.history.state_dict()
    return result


def uneven(rank, step):
    return data_of(rank, step, size=16 if rank == 0 else 9)


def repeated(rank, step):
    return batch(seed=step, size=16)  # the same samples everywhere


def overflow(rank, step):
    data = data_of(rank, step)
    if (rank, step) == (1, 3):
        data['inputs'][:] = float('inf')
    return data


def separate(**options):
    """Models whose parts are wrapped one by one, as in GANs."""
    model = build()
    reference = ddp_training(model=build(), **options)['weights'][-1]
    outer = MMSeparateDistributedDataParallel(model)
    wrapper = wrap(model, **options)
    for step in range(STEPS):
        outer.train_step(data_of(dist.get_rank(), step), wrapper)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return (weights - reference).abs().max().item()


def with_unused(**options):
    model = build(norm=True)
    model.unused = nn.Parameter(torch.ones(3, dtype=torch.double))
    return ddp_training(DDP_OPTIONS['unused'], model=model, **options)


class Branches(nn.Module):
    """Layers of which a pass uses some, as LayerDrop and routing do.

    The first pass takes another one than the second, in each process its own;
    the last layer is used by first passes only.
    """

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(6, 12)
        self.narrow = nn.Linear(12, 3)
        self.wide = nn.Sequential(nn.Linear(12, 5), nn.Linear(5, 3))
        self.first = nn.Linear(12, 3)
        self.calls = count()  # no attribute that a step would put back

    def forward(self, x):
        x = torch.tanh(self.trunk(x))
        number = next(self.calls) if self.trunk.training else 1
        if self.training and number % 2 == 0 and self.first_alone:
            return self.first(x) + self.wide(x)
        return (self.wide if (number // 2 + number + dist.get_rank()) % 3
                else self.narrow)(x)


BRANCHING = dict(
    SAM=dict(type='SAM', rho=0.3), AUSAM=AUSAM,
    pair=dict(AUSAM, alpha=(0.25, 0.75)),
    accumulation=dict(type='SAM', rho=0.3, accumulative_counts=2),
    synchronized=dict(type='SAM', rho=0.3, sync_perturbation=True),
    FSAM=dict(type='FSAM'), AESAM=dict(type='AESAM'),
    LookSAM=dict(type='LookSAM', k=2))


def branching(first_alone, ddp=None, **options):
    """Weights after a training, and whether a layer has never moved."""
    model = build()
    torch.manual_seed(0)
    model.net = Branches().double()
    model.net.first_alone = first_alone
    before = model.net.first.weight.detach().clone()
    result = ddp_training(
        dict(find_unused_parameters=True, **(ddp or {})), model=model,
        **options)
    return dict(result, stayed=torch.equal(before, model.net.first.weight))


def pair_of_processes():
    results = {
        f'{name}-{accumulation}': ddp_training(
            ddp, accumulative_counts=accumulation, **AUSAM)
        for name, ddp in DDP_OPTIONS.items() for accumulation in (1, 3)
        if (name, accumulation) != ('static', 3)
    }
    try:
        ddp_training(DDP_OPTIONS['static'], accumulative_counts=3, **AUSAM)
    except ValueError as error:
        results['refused'] = str(error)
    results['as on a static graph'] = ddp_training(
        first_synchronized=True, **AUSAM)
    results['with unused'] = with_unused(**AUSAM)
    for name, options in dict(
            synchronized=dict(type='SAM', rho=0.3, sync_perturbation=True),
            unsynchronized=dict(type='SAM', rho=0.3)).items():
        for accumulation in (1, 3):
            results[f'{name}-{accumulation}'] = ddp_training(
                model=build(), accumulative_counts=accumulation, **options)
    results['ausam synchronized'] = ddp_training(
        model=build(), **dict(AUSAM, alpha=1., sync_perturbation=True))
    results['uneven'] = ddp_training(data=uneven, **AUSAM)
    results['repeated'] = ddp_training(data=repeated, steps=1, **AUSAM)
    results['same batches'] = ddp_training(data=repeated, steps=3, **AUSAM)
    results['overflow'] = ddp_training(
        data=overflow, model=build(), **dict(AUSAM, alpha=(0.25, 0.75)))
    for name, options in BRANCHING.items():
        results[f'branches {name}'] = branching(False, **options)
    for name in ('SAM', 'accumulation', 'pair'):
        results[f'first pass alone, {name}'] = branching(
            True, **BRANCHING[name])
    results['branches in buckets'] = branching(
        False, dict(gradient_as_bucket_view=True), **BRANCHING['SAM'])
    results['separate'] = separate(**AUSAM)
    results['separate synchronized'] = separate(
        type='SAM', rho=0.3, sync_perturbation=True)
    return results


def four_processes():
    return {
        str(alpha): ddp_training(**dict(AUSAM, alpha=alpha))
        for alpha in (0.5, (0.25, 0.75))
    }


@pytest.fixture(scope='module')
def pair():
    return launch(pair_of_processes, 2)


def assert_identical(results):
    """The weights of all processes after every step."""
    for name, first in results[0].items():
        if isinstance(first, dict):
            for other in results[1:]:
                for a, b in zip(first['weights'], other[name]['weights']):
                    assert torch.equal(a, b), name


def test_two_processes_hold_identical_parameters_after_every_step(pair):
    assert_identical(pair)


@pytest.mark.slow
def test_four_processes_hold_identical_parameters_after_every_step():
    assert_identical(launch(four_processes, 4))


@pytest.mark.parametrize('option,accumulation', [
    (option, accumulation) for option in list(DDP_OPTIONS)[1:]
    for accumulation in (1, 3) if (option, accumulation) != ('static', 3)
])
def test_options_of_ddp_change_nothing(pair, option, accumulation):
    for rank in (0, 1):
        expected = pair[rank]['as on a static graph' if option == 'static'
                              else f'default-{accumulation}']
        result = pair[rank][f'{option}-{accumulation}']
        for a, b in zip(expected['weights'], result['weights']):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        for name, value in expected['table'].items():
            torch.testing.assert_close(result['table'][name], value)


def test_accumulation_on_a_static_graph_is_refused(pair):
    assert 'leave static_graph or accumulative_counts out' in \
        pair[0]['refused']


def test_parameters_without_gradient_change_nothing(pair):
    expected = pair[0]['default-1']['weights'][-1]
    result = pair[0]['with unused']['weights'][-1]
    assert result[:3].eq(1).all()
    torch.testing.assert_close(result[3:], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', BRANCHING)
def test_passes_may_use_different_parameters(pair, name):
    for result in (each[f'branches {name}'] for each in pair):
        moved = [not torch.equal(a, b) for a, b in zip(
            result['weights'], result['weights'][1:])]
        assert sum(moved) == (3 if name == 'accumulation' else 5)
        assert result['weights'][-1].isfinite().all()
        assert result['stayed']
    assert torch.equal(*(
        each[f'branches {name}']['weights'][-1] for each in pair))


def test_buckets_do_not_matter_where_passes_use_different_parameters(pair):
    for result in pair:
        torch.testing.assert_close(
            result['branches in buckets']['weights'],
            result['branches SAM']['weights'], rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', ['SAM', 'accumulation', 'pair'])
def test_a_layer_of_the_first_pass_alone_does_not_move(pair, name):
    """Not by weight decay either."""
    for result in pair:
        assert result[f'first pass alone, {name}']['stayed']


def test_processes_hold_the_same_history(pair):
    for name, result in pair[0].items():
        if not isinstance(result, dict) or 'table' not in result:
            continue
        for key, value in result['table'].items():
            assert torch.equal(value, pair[1][name]['table'][key]), name
    keys = pair[0]['default-1']['table']['keys']
    assert sorted(keys.tolist()) == list(range(32))
    assert sorted(pair[0]['uneven']['table']['keys'].tolist()) == list(
        range(25))


def test_a_sample_that_two_processes_saw_was_observed_twice(pair):
    table = pair[0]['repeated']['table']
    assert sorted(table['keys'].tolist()) == list(range(16))
    assert table['counts'].eq(2).all()


def test_processes_select_differently_from_the_same_batch(pair):
    counts = pair[0]['same batches']['table']['counts']
    assert counts.sum() == 2 * (16 + 8 + 8)
    assert (counts % 2).any()


def joined(step):
    parts = [data_of(rank, step) for rank in range(2)]
    return dict(
        inputs=torch.cat([part['inputs'] for part in parts]),
        data_samples=sum((part['data_samples'] for part in parts), []))


def on_one_process(accumulation=1, **options):
    model = build()
    wrapper = wrap(model, accumulative_counts=accumulation, **options)
    wrapper.initialize_count_status(model, 0, STEPS)
    for step in range(STEPS):
        model.train_step(joined(step), wrapper)
    return model, wrapper


@pytest.mark.parametrize('accumulation', [1, 3])
def test_a_synchronized_perturbation_is_that_of_the_joined_batch(
        pair, accumulation):
    model, _ = on_one_process(accumulation, type='SAM', rho=0.3)
    expected = torch.cat([p.flatten() for p in model.parameters()])
    result = pair[0][f'synchronized-{accumulation}']['weights'][-1]
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    own = pair[0][f'unsynchronized-{accumulation}']['weights'][-1]
    assert (own - expected).abs().max() > 1e-4


def test_synchronized_ausam_has_the_history_of_the_joined_batch(pair):
    model, wrapper = on_one_process(**dict(AUSAM, alpha=1.))
    expected = torch.cat([p.flatten() for p in model.parameters()])
    result = pair[1]['ausam synchronized']
    torch.testing.assert_close(
        result['weights'][-1], expected, rtol=0, atol=1e-12)
    table = result['table']
    torch.testing.assert_close(
        table['means'], wrapper.history.means(table['keys']), rtol=0,
        atol=1e-12)


def test_an_overflow_in_one_process_skips_the_step_in_all(pair):
    for rank, perturbations in ((0, 0), (1, 1)):
        result = pair[rank]['overflow']
        assert result['skipped'] == (perturbations, 1)
        assert torch.equal(result['weights'][2], result['weights'][3])
        assert not torch.equal(result['weights'][3], result['weights'][4])
        assert result['weights'][-1].isfinite().all()
        assert result['table']['means'].isfinite().all()


def test_submodules_wrapped_one_by_one_train_like_the_wrapped_model(pair):
    for result in pair:
        assert result['separate'] < 1e-12
        assert result['separate synchronized'] < 1e-12


TIMEOUT = 5
RAISING = {
    ('SAM', 'forward'): dict(type='SAM', rho=0.3),
    ('SAM', 'needs_second_pass'): dict(type='SAM', rho=0.3),
    ('AUSAM', 'forward'): AUSAM,
    ('AUSAM', 'observe'): AUSAM,  # which gathers the scores of all
    ('AESAM', 'needs_second_pass'): dict(  # all decide alike
        type='AESAM', c_start=0., c_end=0.),
    ('FSAM', 'set_ascent_direction'): dict(type='FSAM'),
}


def raise_error(*_, **__):
    raise MemoryError


def second_raises(folder, place, **options):
    """Process 1 raises in its third step, but lives on."""
    rank = dist.get_rank()
    model = build(norm=True)
    outer = MMDistributedDataParallel(model)
    wrapper = wrap(model, **options)
    for step in range(2):
        outer.train_step(data_of(rank, step), wrapper)
    before = [p.detach().clone() for p in model.parameters()]
    if rank == 1:
        owner = model if place == 'forward' else wrapper
        setattr(owner, place, raise_error)
    start, error, steps = time.monotonic(), None, 0
    try:
        for step in range(2, 5):
            outer.train_step(data_of(rank, step), wrapper)
            steps += 1
    except Exception as caught:
        error = f'{type(caught).__name__}: {caught}'
    seconds = time.monotonic() - start
    (folder / str(rank)).touch()
    while not (folder / '0').exists():
        time.sleep(0.1)
    return dict(
        error=error, seconds=seconds, steps=steps,
        hooks=sum(len(m._forward_hooks) + len(m._forward_pre_hooks)
                  for m in outer.modules()),
        stayed=all(map(torch.equal, before, model.parameters())))


@pytest.mark.slow
@pytest.mark.parametrize('method,place', RAISING)
def test_a_process_that_raises_ends_all(tmp_path, method, place):
    """Within the time that they wait for each other, and without a trace."""
    waiting, raising = launch(
        partial(second_raises, tmp_path, place, **RAISING[method, place]), 2,
        timeout=TIMEOUT, meet=False)
    assert raising['error'] == 'MemoryError: '
    assert re.search('(?i)time|closed|reset', waiting['error'])
    assert waiting['seconds'] < 3 * TIMEOUT
    for result in (waiting, raising):
        assert result['steps'] == 0
        assert result['hooks'] == 0
        assert result['stayed'] == (place != 'observe')


SHARDED = {
    f'{name}-{accumulation}': dict(accumulative_counts=accumulation, **options)
    for name, options in dict(
        sam=dict(type='SAM', rho=0.3),
        asam=dict(type='SAM', rho=0.3, adaptive=True),
        ausam=dict(AUSAM, alpha=1.)).items() for accumulation in (1, 3)
}


def sharded_training(data=data_of, steps=STEPS, **options):
    """Under FSDP, with the weights of each layer in both processes."""
    outer = shard(build())
    wrapper = wrap(outer, **options)
    wrapper.initialize_count_status(outer, 0, steps)
    for step in range(steps):
        outer.train_step(data(dist.get_rank(), step), wrapper)
    return unsharded_weights(outer)


def overflowing(rank, step):
    """Data whose loss is infinite in the second process's third step."""
    data = data_of(rank, step)
    if (rank, step) == (1, 2):
        data['inputs'] = data['inputs'] * float('inf')
    return data


def without_third_step(rank, step):
    return data_of(rank, step + (step >= 2))


RESUMED = dict(
    AUSAM=dict(ramp_epochs=2),
    LookSAM=dict(k=5),  # the 2nd epoch ends within the five steps
    FSAM=dict())


def sharded_runner(work_dir, name, **options):
    """A training by the strategy, and what its processes hold at the end."""
    torch.manual_seed(0)
    run = FlexibleRunner(
        model=ToyModel().double(),
        work_dir=str(work_dir),
        strategy=dict(
            type='ResumableFSDPStrategy', state_dict_cfg='full',
            model_wrapper=dict(
                type='MMFullyShardedDataParallel', device_id=CPU,
                auto_wrap_policy=ModuleWrapPolicy({nn.Linear}))),
        train_dataloader=dict(
            batch_size=4, dataset=Samples(), num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        optim_wrapper=dict(
            type=name, rho=0.1, **RESUMED[name],
            base=dict(type='CPUAmpOptimWrapper',
                      loss_scale=dict(init_scale=8., growth_interval=3)),
            optimizer=dict(type='SGD', lr=0.02, momentum=0.9)),
        param_scheduler=dict(type='ExponentialLR', gamma=0.9, by_epoch=True),
        randomness=dict(seed=0),
        launcher='pytorch', **options)
    run.train()
    dist.barrier()
    state = run.optim_wrapper.optimizer.state_dict()['state']
    return dict(weights=unsharded_weights(run.model),
                method=run.optim_wrapper.method_state(),
                scaler=run.optim_wrapper.base.loss_scaler.state_dict(),
                sharded_scaler=isinstance(run.optim_wrapper.base.loss_scaler,
                                          ShardedGradScaler),
                momentum=[s['momentum_buffer'] for s in state.values()],
                group={key: value for key, value in
                       run.optim_wrapper.param_groups[0].items()
                       if key != 'params'})


CLIPPING = dict(none=None, norm=dict(max_norm=1.),
                value=dict(type='value', clip_value=1.))


def bad_shard(clip):
    """Steps that are skipped for an element that one process has."""
    outer = shard(build())
    wrapper = wrap(outer, type='SAM', rho=0.3, clip_grad=clip)
    refined, weights = [], []

    def refine(step, params, first):
        refined.append(None)
        if len(refined) == 3 and dist.get_rank() == 1:
            params[0].grad.view(-1)[0] = float('nan')

    wrapper.refine = refine
    for step in range(5):
        outer.train_step(data_of(dist.get_rank(), step), wrapper)
        weights.append(unsharded_weights(outer))
    return dict(skipped=wrapper.skipped_steps, weights=weights)


def sharded_pair(folder):
    results = {name: sharded_training(**options)
               for name, options in SHARDED.items()}
    scaled = dict(type='SAM', rho=0.3, base=dict(
        type='CPUAmpOptimWrapper', use_fsdp=True))
    results['overflow'] = sharded_training(overflowing, **scaled)
    results['skipped'] = sharded_training(
        without_third_step, steps=STEPS - 1, **scaled)
    for name, clip in CLIPPING.items():
        results[f'bad shard, {name}'] = bad_shard(clip)
    for name in RESUMED:
        whole, resumed = folder / f'{name}-whole', folder / f'{name}-resumed'
        results[f'{name}-whole'] = sharded_runner(whole, name)
        results[f'{name}-resumed'] = sharded_runner(
            resumed, name, resume=True, load_from=str(whole / 'epoch_2.pth'))
    return results


@pytest.fixture(scope='module')
def sharded(tmp_path_factory):
    return launch(sharded_pair, 2, tmp_path_factory.mktemp('sharded'))


@pytest.mark.parametrize('name', SHARDED)
def test_fsdp_trains_like_one_process_on_the_joined_batch(sharded, name):
    options = dict(SHARDED[name])
    model, _ = on_one_process(options.pop('accumulative_counts'), **options)
    expected = torch.cat([p.flatten() for p in model.parameters()])
    for result in sharded:
        torch.testing.assert_close(
            result[name], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('clip', CLIPPING)
def test_a_bad_element_of_one_shard_skips_the_step_in_all(sharded, clip):
    for result in sharded:
        result = result[f'bad shard, {clip}']
        assert result['skipped'] == 1
        weights = result['weights']
        moved = [not torch.equal(a, b) for a, b in zip(weights, weights[1:])]
        assert moved == [True, False, True, True]
        assert weights[-1].isfinite().all()


def test_overflow_in_one_shard_skips_the_step_in_all(sharded):
    for result in sharded:
        torch.testing.assert_close(
            result['overflow'], result['skipped'], rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', RESUMED)
def test_trainings_by_the_fsdp_strategy_resume_to_the_same_end(sharded, name):
    for process in sharded:
        whole = process[f'{name}-whole']
        resumed = process[f'{name}-resumed']
        if name == 'AUSAM':
            assert len(whole['method']['history']['keys']) == SIZE
        assert whole['sharded_scaler']
        assert whole['method'].pop('loss_modules') == \
            resumed['method'].pop('loss_modules')
        torch.testing.assert_close(whole, resumed, rtol=0, atol=0)
