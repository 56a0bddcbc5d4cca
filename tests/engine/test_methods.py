"""Precision, accumulation, processes, sharding and resume of all methods."""

import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel

from ausam_mm.engine import common_seed

from ..processes import launch, shard, unsharded_weights
from ..runs import Stop, runner
from ..toy import (
    ToyModel,
    batch,
    build,
    difference,
    sample_losses,
    wrap,
)

STEPS = 12
METHODS = {
    'ESAM': dict(type='ESAM', seed=0),
    'LookSAM': dict(type='LookSAM', k=3),
    'SSSAM': dict(type='SSSAM', p=0.6, seed=0),
    'AESAM': dict(type='AESAM', c_start=0.7, c_end=0.7),
    'AELookSAM': dict(type='AELookSAM', c_start=0.7, c_end=0.7),
    'KSAM': dict(type='KSAM', k=6),
    'VSAM': dict(type='VSAM', K=4, min_rate=0.2),
    'MSAM': dict(type='MSAM'),
    'FSAM': dict(type='FSAM'),
    'GSAM': dict(type='GSAM', alpha=0.5),
    # By default each process has a direction of its own.
    'RandomSAM': dict(type='RandomSAM', seed=0, sync_perturbation=True),
    'SplitSAM': dict(type='SplitSAM', seed=0),
    'SAMPa': dict(type='SAMPa', lmbda=0.4),
}


def options_of(name, **options):
    return dict(METHODS[name], rho=0.3, **options)


def train(name, steps=range(STEPS), model=None, wrapper=None, outer=None,
          data=batch, repeat=1, **options):
    model = model or build()
    wrapper = wrapper or wrap(model, **options_of(name, **options))
    wrapper.initialize_count_status(
        model, steps.start * repeat, STEPS * repeat)
    for i in steps:
        for _ in range(repeat):
            (outer or model).train_step(data(i), wrapper)
    return model, wrapper


@pytest.mark.parametrize('name', ['LookSAM', 'SSSAM', 'AESAM', 'AELookSAM',
                                  'VSAM'])
def test_methods_that_save_passes_have_steps_of_one_and_of_two(name):
    _, wrapper = train(name)
    passes = wrapper.samples_backpropagated / wrapper.samples_loaded
    assert 1.2 < passes < 1.8


# F-SAM's average is one over micro-batches, Random-SAM's directions differ.
@pytest.mark.parametrize('name', sorted(set(METHODS) - {'FSAM', 'RandomSAM'}))
def test_accumulating_equal_micro_batches_is_a_step_on_one(name):
    # ESAM's masks differ from micro-batch to micro-batch.
    options = dict(beta=1.) if name == 'ESAM' else {}
    single, _ = train(name, **options)
    accumulated, _ = train(
        name, repeat=3, accumulative_counts=3, **options)
    assert difference(single, accumulated) < 1e-10


@pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
@pytest.mark.parametrize('name', METHODS)
def test_state_dicts_resume_to_the_same_end(name, optimizer, tmp_path):

    def fresh():
        model = build()
        wrapper = wrap(model, **options_of(name))
        if optimizer == 'AdamW':
            wrapper.optimizer = torch.optim.AdamW(
                [dict(params=list(model.parameters()), rho=0.3)], lr=0.01)
        return dict(model=model, wrapper=wrapper)

    whole, _ = train(name, **fresh())
    first = train(name, range(7), **fresh())
    torch.save([part.state_dict() for part in first], tmp_path / 'state.pth')
    # Saving has changed nothing for the one that goes on.
    assert difference(train(name, range(7, STEPS), *first)[0], whole) == 0

    second = fresh()
    states = torch.load(tmp_path / 'state.pth', weights_only=True)
    for part, state in zip(second.values(), states):
        part.load_state_dict(state)
    assert difference(train(name, range(7, STEPS), **second)[0], whole) == 0


@pytest.mark.parametrize('name', METHODS)
def test_the_loss_scale_changes_nothing(name):
    """A power of two changes nothing, bit for bit, in float32 weights."""
    results = []
    for scale, growth_interval in ((1., 1000), (2.**10, 2)):
        model = build().float()
        train(name, model=model, base=dict(
            type='CPUAmpOptimWrapper', dtype='bfloat16', loss_scale=dict(
                init_scale=scale, growth_interval=growth_interval)))
        results.append(model)
    assert difference(*results) == 0
    assert difference(results[0], build().float()) > 1e-2


@pytest.mark.parametrize('name', METHODS)
def test_autocast_around_a_training_is_autocast_around_its_passes(name):
    """What was cast at w must not serve a pass at w + eps or a later w."""
    amp, model = build().float(), build().float()
    train(name, model=amp, base=dict(
        type='CPUAmpOptimWrapper', dtype='bfloat16', loss_scale=1.))
    with torch.autocast('cpu', torch.bfloat16):
        train(name, model=model)
    assert difference(model, amp) == 0
    assert difference(model, build().float()) > 1e-2


@pytest.mark.parametrize('name, options', [
    ('KSAM', dict(k=16)),
    ('ESAM', dict(beta=1., gamma=0.99)),
])
def test_a_scoring_pass_under_autocast_leaves_gradients_to_the_next(
        name, options):
    """What was cast without gradient must not serve the passes after it."""
    base = dict(type='CPUAmpOptimWrapper', dtype='bfloat16', loss_scale=1.)
    model, sam = build().float(), build().float()
    wrappers = [
        wrap(model, **options_of(name, base=base) | options),
        wrap(sam, type='SAM', rho=0.3, base=base)]
    wrappers[0].select_by_loss = lambda step, losses: torch.arange(16)
    for each, wrapper in zip((model, sam), wrappers):
        train(name, model=each, wrapper=wrapper)
    assert wrappers[0].samples_scored == 16 * STEPS
    assert difference(model, sam) == 0


def overflowing(step):
    data = batch(step)
    if step == 3:
        data['inputs'] = data['inputs'] * float('inf')
    return data


@pytest.mark.parametrize('base', ['OptimWrapper', 'CPUAmpOptimWrapper'])
@pytest.mark.parametrize('name', METHODS)
def test_no_state_keeps_an_overflow(name, base):
    model, wrapper = train(name, data=overflowing, base=dict(type=base))
    assert all(p.isfinite().all() for p in model.parameters())
    for memory in wrapper.param_states:
        kept = memory.of(list(model.parameters()))
        assert all(part.isfinite().all() for part in kept)
        assert any(part.abs().sum() > 0 for part in kept)
    assert wrapper.optimizer.state[next(model.parameters())][
        'momentum_buffer'].isfinite().all()


# SplitSAM's passes see different samples.
@pytest.mark.parametrize('name', sorted(set(METHODS) - {'SplitSAM'}))
def test_batchnorm_statistics_move_once_a_step(name):
    model = build(norm=True)
    train(name, model=model)
    assert model.net[1].num_batches_tracked == STEPS


def own_data(step):
    return batch(100 * dist.get_rank() + step)


def in_processes():
    results = {}
    for name in METHODS:
        model = build()
        same, _ = train(
            name, model=model, outer=MMDistributedDataParallel(model))
        sharded = shard(build())
        wrapper = wrap(sharded, **options_of(name))
        train(name, model=sharded, wrapper=wrapper, outer=sharded)
        model = build()
        outer = MMDistributedDataParallel(model)
        options = dict(beta=1.) if name == 'ESAM' else {}
        own, wrapper = train(name, model=model, outer=outer, data=own_data,
                             repeat=2, accumulative_counts=2, **options)
        single, _ = train(
            name, model=(model := build()), data=own_data,
            outer=MMDistributedDataParallel(model))
        torch.manual_seed(dist.get_rank())
        results[name] = dict(
            single=single.state_dict(),
            kept=[part for memory in wrapper.param_states
                  for part in memory.of(list(own.parameters()))],
            seed=common_seed(None),
            same=copy.deepcopy(same.state_dict()), own=own.state_dict(),
            sharded=unsharded_weights(sharded))
    return results


@pytest.fixture(scope='module')
def processes():
    return launch(in_processes, 2)


@pytest.mark.parametrize('name', METHODS)
def test_processes_with_the_same_data_train_like_one(processes, name):
    expected, _ = train(name)
    for result in processes:
        for key, value in expected.state_dict().items():
            torch.testing.assert_close(
                result[name]['same'][key], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', METHODS)
def test_processes_with_their_own_data_stay_together(processes, name):
    first, second = (result[name] for result in processes)
    for training in ('own', 'single'):
        for key, value in first[training].items():
            assert torch.equal(value, second[training][key]), key
    for one, other in zip(first['kept'], second['kept']):
        assert torch.equal(one, other)
    assert first['seed'] == second['seed']
    alone, _ = train(name)
    one = first['own']
    assert (one['net.0.weight'] - alone.net[0].weight).abs().max() > 1e-3


# Random-SAM draws other numbers for other shards.
@pytest.mark.parametrize('name', sorted(set(METHODS) - {'RandomSAM'}))
def test_sharded_parameters_train_like_unsharded_ones(processes, name):
    expected, _ = train(name)
    expected = torch.cat([p.flatten() for p in expected.parameters()])
    for result in processes:
        torch.testing.assert_close(
            result[name]['sharded'], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', ['KSAM', 'ESAM'])
def test_a_summing_loss_of_selected_samples_keeps_the_batch_scale(name):
    """On a part of the batch a sum is as long as the batch's."""
    lr = 0.05 / 16
    mean, _ = train(name, data=batch)
    model = build(reduction='sum')
    wrapper = wrap(model, lr=lr, weight_decay=1e-3 * 16,
                   **options_of(name))
    train(name, model=model, wrapper=wrapper)
    assert difference(model, mean) < 1e-10


def test_dropout_has_the_same_masks_where_esam_compares_losses():
    """ESAM without a radius sees no loss rise, whatever is dropped."""
    model = build(dropout=0.5)
    wrapper = wrap(model, type='ESAM', rho=0., beta=1., gamma=0.5)
    rises = []
    select = wrapper.select_by_loss
    wrapper.select_by_loss = lambda step, losses: rises.append(
        losses - step.first.losses) or select(step, losses)
    model.train_step(batch(), wrapper)
    assert rises[0].abs().max() == 0


def test_msam_restores_the_weights_when_the_forward_pass_fails():

    class Broken(ToyModel):
        fails = False

        def forward(self, *args, **kwargs):
            if self.fails:
                raise RuntimeError('broken')
            return super().forward(*args, **kwargs)

    model = Broken().double()
    wrapper = wrap(model, **options_of('MSAM'))
    for i in range(3):
        model.train_step(batch(i), wrapper)
    before = copy.deepcopy(model)
    model.fails = True
    with pytest.raises(RuntimeError, match='broken'):
        model.train_step(batch(3), wrapper)
    assert difference(model, before) == 0


@pytest.mark.parametrize('name', METHODS)
def test_trainings_by_the_runner_resume_to_the_same_end(name, tmp_path):

    def run(folder, **options):  # without dropout, which no checkpoint keeps
        torch.manual_seed(0)
        return runner(tmp_path / folder, options_of(name),
                      model=ToyModel(norm=True).double(), **options)

    whole = run('whole')
    whole.train()
    broken = run('broken', custom_hooks=[Stop(8)])
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = run('broken', resume=True)
    resumed.train()
    assert difference(whole.model, resumed.model) == 0
    states = [run.optim_wrapper.method_state() for run in (whole, resumed)]
    assert states[0] == states[1]
    assert states[0]['num_updates'] == 12


@pytest.mark.parametrize('name', ['OptimWrapper', 'SAM'])
def test_checkpoints_are_interchangeable_between_wrappers(name):
    """Another wrapper takes momentum and counters, and leaves the rest."""
    options = dict(rho=0.3) if name == 'SAM' else {}
    model, wrapper = train('LookSAM')
    other = wrap(build(), type=name, **options)
    other.load_state_dict(wrapper.state_dict())
    for p, q in zip(model.parameters(), (
            q for group in other.param_groups for q in group['params'])):
        assert torch.equal(
            wrapper.optimizer.state[p]['momentum_buffer'],
            other.optimizer.state[q]['momentum_buffer'])
        kept = set(other.optimizer.state[q]) - {'momentum_buffer'}
        # MMEngine's own knows nothing of it, and keeps it unused.
        assert kept == ({'ausam_orthogonal_part'} if name == 'OptimWrapper'
                        else set())
    back = wrap(build(), **options_of('LookSAM'))
    back.load_state_dict(wrap(build(), type=name, **options).state_dict())
    assert len(back.param_states[0]) == 0


# -- weights of samples, which a sampler that prunes the data sets --

WEIGHTED = {**METHODS, 'SAM': dict(type='SAM'), 'AUSAM': dict(
    type='AUSAM', alpha=0.5, warmup_iters=2, ramp_iters=0, seed=0)}


@pytest.mark.parametrize('name', WEIGHTED)
def test_sample_weights_of_1_change_nothing_and_report_the_losses(name):
    without, weighted = build(), build()
    wrappers = [wrap(model, rho=0.3, **WEIGHTED[name])
                for model in (without, weighted)]
    for wrapper in wrappers:
        wrapper.initialize_count_status(without, 0, STEPS)
    for i in range(STEPS):
        without.train_step(batch(i), wrappers[0])
        losses = sample_losses(weighted, batch(i)).detach()
        wrappers[1].sample_weights = torch.ones(16)
        weighted.train_step(batch(i), wrappers[1])
        seen, at_w = wrappers[1].last_losses
        # The first pass of these is not at w.
        if name not in ('MSAM', 'RandomSAM', 'SAMPa'):
            torch.testing.assert_close(at_w, losses[seen])
        assert wrappers[1].sample_weights is None
    assert difference(without, weighted) == 0


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('name', ['SAM', 'KSAM', 'AUSAM', 'MSAM', 'SAMPa'])
def test_sample_weights_multiply_the_losses_of_both_passes(name, reduction):
    """A weight of 2 is a loss twice as large: of a model that doubles it."""

    class Doubled(ToyModel):

        def forward(self, inputs, data_samples=None, mode='tensor'):
            factor = torch.tensor(
                [s.factor for s in data_samples], dtype=torch.double).sqrt()
            pred = self.net(inputs)
            target = torch.stack([s.gt for s in data_samples])
            return dict(loss=self.loss_module(
                pred * factor[:, None], target * factor[:, None]))

    torch.manual_seed(0)
    doubled = Doubled(reduction=reduction).double()
    weighted = build(reduction=reduction)
    options = dict(WEIGHTED[name], rho=0.3, lr=0.01)
    if name == 'KSAM':  # by what it selects is another matter
        options['k'] = 16
    wrappers = [wrap(model, **options) for model in (doubled, weighted)]
    factors = torch.ones(16, dtype=torch.double)
    factors[::3] = 2.
    for i in range(4):
        data = batch(i)
        for sample, factor in zip(data['data_samples'], factors.tolist()):
            sample.set_field(factor, 'factor', dtype=float)
        doubled.train_step(data, wrappers[0])
        wrappers[1].sample_weights = factors
        weighted.train_step(batch(i), wrappers[1])
        if name == 'AUSAM' and i == 1:  # selections follow DLP, which differs
            break
    assert difference(doubled, weighted) < 1e-12
    assert difference(weighted, build(reduction=reduction)) > 1e-3
