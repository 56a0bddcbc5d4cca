"""SplitSAM's parts, gradients and statistics, against loops in torch.

That both gradients make the step as described is in test_algorithms.py, and
resume, overflows and FSDP are in tests/engine/test_methods.py.
"""

from contextlib import nullcontext
from itertools import product

import pytest
import torch
import torch.distributed as dist
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    allreduce_hook,
)

from ausam_mm.engine import Step

from ..processes import launch
from ..runs import runner, scalars
from ..toy import (
    ToyModel,
    batch,
    build,
    difference,
    record_selections,
    wrap,
)

RHO = 0.3
STEPS = 7
SCALE = 2.**10
MAX_NORM = 1.
TOLERANCE = dict(float64=1e-12, bfloat16=2e-3, float16=3e-4)


def data_of(rank, step):
    return batch(100 * rank + step)


def train(model, steps=STEPS, data=batch, outer=None, **options):
    """Trains some steps; returns the wrapper and its selections."""
    if options.setdefault('type', 'SplitSAM') == 'SplitSAM':
        options.setdefault('seed', 0)
    wrapper = wrap(model, **{'rho': RHO, **options})
    wrapper.initialize_count_status(model, 0, steps)
    selections = record_selections(wrapper)
    for i in range(steps):
        (outer or model).train_step(data(i), wrapper)
    return wrapper, selections


# -- every combination of what runs a step --

CASES = [
    dict(zip(('precision', 'accumulation', 'clip', 'reduction', 'norm',
              'sync'), values))
    for values in [
        *product(('float64', ), (1, 3), (False, ), ('mean', 'sum'),
                 (False, True), (False, )),
        ('float64', 1, True, 'mean', True, True),
        ('float64', 3, False, 'sum', False, True),
        ('bfloat16', 3, True, 'mean', True, False),
        ('float16', 1, False, 'mean', True, False),
    ]]


def name_of(case):
    return '-'.join(str(value) for value in case.values())


def model_of(case):
    model = build(norm=case['norm'], reduction=case['reduction'])
    return model if case['precision'] == 'float64' else model.float()


def lr_of(case):
    return 0.05 if case['reduction'] == 'mean' else 0.05 / 16


def train_case(case, rank=0, distributed=False):
    model = model_of(case)
    base = None if case['precision'] == 'float64' else dict(
        type='CPUAmpOptimWrapper', dtype=case['precision'],
        loss_scale=dict(init_scale=SCALE, growth_interval=1000))
    wrapper, selections = train(
        model, data=lambda step: data_of(rank, step), base=base,
        outer=MMDistributedDataParallel(model) if distributed else None,
        lr=lr_of(case), ratio=0.25, accumulative_counts=case['accumulation'],
        clip_grad=dict(max_norm=MAX_NORM) if case['clip'] else None,
        sync_perturbation=case['sync'])
    return dict(weights=model.state_dict(),
                parts=[(s.ascent, s.descent) for s in selections])


def train_in_process():
    return [train_case(case, dist.get_rank(), True) for case in CASES]


def reference(case, parts):
    """The same in torch, which plays all processes, given their parts."""
    model = model_of(case)
    params = list(model.parameters())
    optimizer = torch.optim.SGD(
        params, lr=lr_of(case), momentum=0.9, weight_decay=1e-3)
    autocast = nullcontext() if case['precision'] == 'float64' else \
        torch.autocast('cpu', getattr(torch, case['precision']),
                       cache_enabled=False)
    scale = 1. if case['precision'] == 'float64' else SCALE

    def gradient(rank, step, part, w, eps=None):
        """The gradient of a part's loss; the first process's BatchNorm."""
        if case['norm']:
            model.net[1].momentum = 0.1 if rank == 0 else 0.
        data = data_of(rank, step)
        target = torch.stack([s.gt for s in data['data_samples']])[part]
        for p, at, e in zip(params, w, eps or [0.] * len(w)):
            p.data = at + e
        with autocast:
            pred = model.net(data['inputs'][part].to(params[0].dtype))
            loss = getattr((pred - target).pow(2).sum(1), case['reduction'])()
        grads = torch.autograd.grad(loss * scale, params)
        for p, at in zip(params, w):
            p.data = at
        return [g / scale for g in grads]

    def mean(vectors):
        return [sum(each) / len(each) for each in zip(*vectors)]

    group = []
    for step in range(STEPS):
        w = [p.detach().clone() for p in params]
        splits = [of_rank[step] for of_rank in parts]
        firsts = [gradient(rank, step, one, w)
                  for rank, (one, _) in enumerate(splits)]
        combined = []
        for rank, (one, two) in enumerate(splits):
            g = mean(firsts) if case['sync'] else firsts[rank]
            length = torch.cat([each.flatten() for each in g]).norm()
            second = gradient(
                rank, step, two, w, [RHO * each / length for each in g])
            shares = (1, 1) if case['reduction'] == 'sum' else (
                len(one) / 16, len(two) / 16)
            combined.append([
                shares[0] * x + shares[1] * y
                for x, y in zip(firsts[rank], second)])
        group.append(mean(combined))
        if len(group) == case['accumulation'] or step == STEPS - 1:
            for p, g in zip(params, mean(group)):
                p.grad = g
            if case['clip']:
                torch.nn.utils.clip_grad_norm_(params, MAX_NORM)
            optimizer.step()
            group = []
    return model


@pytest.fixture(scope='module')
def on_two_processes():
    results = launch(train_in_process, 2)
    return {name_of(case): [result[i] for result in results]
            for i, case in enumerate(CASES)}


@pytest.mark.parametrize('num_processes', [1, 2])
@pytest.mark.parametrize('case', CASES, ids=name_of)
def test_splitsam_matches_a_loop_in_torch(case, num_processes, request):
    results = [train_case(case)] if num_processes == 1 else \
        request.getfixturevalue('on_two_processes')[name_of(case)]
    model = reference(case, [result['parts'] for result in results])
    tolerance = TOLERANCE[case['precision']]
    for result in results:
        for name, p in model.named_parameters():
            torch.testing.assert_close(
                result['weights'][name], p.detach(), rtol=0, atol=tolerance)
    if case['norm']:
        # DDP broadcasts the first process's statistics.
        weights = results[0]['weights']
        for name in ('running_mean', 'running_var'):
            torch.testing.assert_close(
                weights[f'net.1.{name}'], getattr(model.net[1], name),
                rtol=0, atol=10 * tolerance)
        assert weights['net.1.num_batches_tracked'] == 2 * STEPS
    assert difference(model, model_of(case)) > 10 * tolerance


# -- the parts --

def test_each_sample_of_each_batch_is_in_one_pass():
    model, seen = build(), []
    model.net.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    train(model, steps=3, ratio=0.3, reduction='mean')
    assert [len(each) for each in seen] == [4, 12] * 3
    for i in range(3):
        both = torch.cat(seen[2 * i:2 * i + 2])
        inputs = batch(i)['inputs']
        assert torch.equal(both.sort(0).values, inputs.sort(0).values)


def test_splits_follow_from_the_seed():
    first, again, other = (
        [s.ascent.tolist() for s in train(build(), seed=seed)[1]]
        for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize('norm, size', [(False, 1), (True, 3)])
def test_a_batch_too_small_to_split_is_a_step_of_sam(norm, size):
    model, sam = build(norm=norm), build(norm=norm)
    wrapper, _ = train(
        model, data=lambda step: batch(step, size), reduction='mean')
    train(sam, data=lambda step: batch(step, size), type='SAM')
    assert difference(model, sam) == 0
    assert wrapper.samples_backpropagated == 2 * size * STEPS


@pytest.mark.parametrize('ratio, sizes', [(0.01, (2, 14)), (0.99, (14, 2))])
def test_batchnorm_gets_two_samples_in_each_part(ratio, sizes):
    _, selections = train(build(norm=True), ratio=ratio)
    assert {(len(s.ascent), len(s.descent)) for s in selections} == {sizes}


# -- the scale --

@pytest.mark.parametrize('reduction', [None, 'sum'])
@pytest.mark.parametrize('weighting', ['size', 'second'])
def test_a_summing_loss_keeps_the_scale_of_the_batch(reduction, weighting):
    options = dict(ratio=0.25, weighting=weighting)
    mean, summing = build(), build(reduction='sum')
    train(mean, **options)
    train(summing, lr=0.05 / 16, weight_decay=16e-3, reduction=reduction,
          **options)
    assert difference(mean, summing) < 1e-10
    assert difference(mean, build()) > 1e-2


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_a_reduction_that_is_given_is_the_one_that_is_found(reduction):
    found, given = build(reduction=reduction), build(reduction=reduction)
    for model, option in ((found, None), (given, reduction)):
        train(model, lr=0.01, ratio=0.25, reduction=option)
    assert difference(found, given) < 1e-12


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_without_a_radius_it_is_the_base_optimizer(reduction):
    model, plain = build(reduction=reduction), build(reduction=reduction)
    train(model, lr=0.01, rho=0., ratio=0.25)
    wrapper = wrap(plain, lr=0.01, type='OptimWrapper')
    for i in range(STEPS):
        plain.train_step(batch(i), wrapper)
    assert difference(model, plain) < 1e-12


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('given', [False, True])
def test_sample_weights_multiply_the_losses_of_both_parts(reduction, given):
    """A weight of 2 is a gradient of the sample twice as long."""
    weights = torch.ones(16, dtype=torch.double)
    weights[::3] = 2.
    model = build(reduction=reduction)
    wrapper = wrap(model, type='SplitSAM', rho=0., ratio=0.25, lr=0.01,
                   reduction=reduction if given else None)
    wrapper.sample_weights = weights
    model.train_step(batch(), wrapper)

    expected = build(reduction=reduction)
    target = torch.stack([s.gt for s in batch()['data_samples']])
    losses = (expected.net(batch()['inputs']) - target).pow(2).sum(1)
    getattr(losses * weights, reduction)().backward()
    torch.optim.SGD(expected.parameters(), lr=0.01,
                    weight_decay=1e-3).step()
    assert difference(model, expected) < 1e-12


# -- losses that are not separable --

class ContrastiveLoss(nn.Module):
    """Each sample must be nearest to its own target of the batch."""

    def forward(self, pred, target):
        return nn.functional.cross_entropy(
            pred @ target.T, torch.arange(len(pred)))


class Contrastive(ToyModel):

    def __init__(self):
        super().__init__()
        self.loss_module = ContrastiveLoss()


def contrastive():
    torch.manual_seed(0)
    return Contrastive().double()


def test_a_loss_that_is_not_separable_is_taken_for_a_mean():
    model, expected = contrastive(), contrastive()
    _, selections = train(model, ratio=0.25, reduction='mean')
    params = list(expected.parameters())
    optimizer = torch.optim.SGD(
        params, lr=0.05, momentum=0.9, weight_decay=1e-3)

    def gradient(data, part):
        target = torch.stack([s.gt for s in data['data_samples']])[part]
        pred = expected.net(data['inputs'][part])
        return torch.autograd.grad(
            expected.loss_module(pred, target), params)

    for i, split in enumerate(selections):
        first = gradient(batch(i), split.ascent)
        length = torch.cat([g.flatten() for g in first]).norm()
        w = [p.detach().clone() for p in params]
        for p, g in zip(params, first):
            p.data = p.data + RHO * g / length
        second = gradient(batch(i), split.descent)
        for p, at, x, y in zip(params, w, first, second):
            p.data, p.grad = at, 0.25 * x + 0.75 * y
        optimizer.step()
    assert difference(model, expected) < 1e-12
    assert difference(model, contrastive()) > 1e-2


def test_a_loss_that_is_not_separable_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="SplitSAM with reduction='mean'"):
        train(contrastive())


# -- the direction --

def record_perturbations(monkeypatch):
    """A list of the perturbations from now on."""
    found, perturb = [], Step._perturb

    def recorded(step):
        at_w = [p.detach().clone() for p in step.params]
        perturb(step)
        found.append(torch.cat([
            (p.detach() - w).flatten() for p, w in zip(step.params, at_w)]))

    monkeypatch.setattr(Step, '_perturb', recorded)
    return found


def test_a_random_direction_has_the_radius_and_not_the_gradient_s(
        monkeypatch):
    found = record_perturbations(monkeypatch)
    train(build(), steps=3, direction='random')
    train(build(), steps=3, direction='random', data=lambda i: batch(9 + i))
    train(build(), steps=3)
    for eps in found:
        assert eps.norm().item() == pytest.approx(RHO)
    for eps, other_data, gradient in zip(found, found[3:], found[6:]):
        torch.testing.assert_close(eps, other_data, rtol=0, atol=1e-12)
        # Of some 150 dimensions.
        assert (eps @ gradient).abs() / RHO**2 < 0.35
    assert (found[0] @ found[1]).abs() / RHO**2 < 0.35


def test_a_random_direction_keeps_the_gradient_of_the_first_part(
        monkeypatch):
    found = record_perturbations(monkeypatch)
    model, expected = build(), build()
    wrapper, (split, ) = train(model, steps=1, direction='random', ratio=0.25)

    def loss(part):
        target = torch.stack([s.gt for s in batch()['data_samples']])[part]
        return (expected.net(batch()['inputs'][part]) - target).pow(
            2).sum(1).mean()

    params = list(expected.parameters())
    first = torch.autograd.grad(loss(split.ascent), params)
    with torch.no_grad():
        w = [p.clone() for p in params]
        nn.utils.vector_to_parameters(
            nn.utils.parameters_to_vector(params) + found[0], params)
    second = torch.autograd.grad(loss(split.descent), params)
    for p, at, x, y in zip(params, w, first, second):
        p.data, p.grad = at, 0.25 * x + 0.75 * y
    torch.optim.SGD(params, lr=0.05, weight_decay=1e-3).step()
    assert difference(model, expected) < 1e-12
    length = torch.cat([g.flatten() for g in first]).norm()
    norm = wrapper.message_hub.get_scalar('train/ausam/grad_norm').current()
    assert norm == pytest.approx(length.item())


def overflowing(step):
    data = batch(step)
    if step == 2:
        data['inputs'] = data['inputs'] * float('inf')
    return data


def test_a_random_direction_leaves_out_a_step_that_overflows():
    model = build()
    wrapper, _ = train(model, direction='random', data=overflowing)
    assert wrapper.skipped_steps == wrapper.skipped_perturbations == 1
    assert all(p.isfinite().all() for p in model.parameters())


# -- faults --

def test_a_second_forward_pass_that_fails_leaves_no_gradient_behind():
    model, expected = build(), build()
    wrapper, other = (
        wrap(each, type='SplitSAM', rho=RHO, seed=0, reduction='mean')
        for each in (model, expected))

    def fail(*_):
        raise MemoryError

    handle = None

    def fail_in_the_second(*_):
        nonlocal handle
        handle = model.net.register_forward_pre_hook(fail)

    once = model.register_forward_hook(fail_in_the_second)
    with pytest.raises(MemoryError):
        model.train_step(batch(5), wrapper)
    once.remove()
    handle.remove()
    assert all(p.grad is None for p in model.parameters())
    assert difference(model, expected) == 0
    model.train_step(batch(), wrapper)
    expected.train_step(batch(), other)
    assert difference(model, expected) == 0


# -- processes --

class Branches(BaseModel):
    """A model that uses a layer only for more than five samples."""

    def __init__(self):
        super().__init__()
        self.net, self.more = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        pred = self.net(inputs)
        if len(inputs) > 5:
            pred = pred + self.more(inputs)
        target = torch.stack([s.gt for s in data_samples])
        return dict(loss=(pred - target).pow(2).mean())


def branches(ratio):
    torch.manual_seed(0)
    model = Branches().double()
    outer = MMDistributedDataParallel(model, find_unused_parameters=True)
    train(model, outer=outer, ratio=ratio, reduction='mean',
          data=lambda step: data_of(dist.get_rank(), step))
    return model.state_dict()


def count_reductions(**options):
    """How often a step's gradients are reduced."""
    model, reduced = build(), []
    outer = MMDistributedDataParallel(model)

    def reduce(state, bucket):
        reduced.append(bucket.is_last())
        return allreduce_hook(None, bucket)

    outer.register_comm_hook(None, reduce)
    wrapper = wrap(model, **options)
    for step in range(STEPS):
        outer.train_step(data_of(dist.get_rank(), step), wrapper)
    return sum(reduced)


def random_directions(sync):
    """The perturbations, seen by the weights of the second pass."""
    model, weights = build(), []
    model.net.register_forward_pre_hook(
        lambda module, args: weights.append(nn.utils.parameters_to_vector(
            model.parameters()).detach().clone()))
    train(model, steps=2, outer=MMDistributedDataParallel(model),
          direction='random', reduction='mean', sync_perturbation=sync,
          data=lambda step: data_of(dist.get_rank(), step))
    return weights[1] - weights[0]


DDP = dict(
    default={}, static=dict(static_graph=True),
    unused=dict(find_unused_parameters=True),
    views=dict(gradient_as_bucket_view=True))


def with_options_of_ddp(**options):
    # The first perturbation on a static graph is synchronized.
    model = build()
    train(model, outer=MMDistributedDataParallel(model, **options),
          sync_perturbation=True,
          data=lambda step: data_of(dist.get_rank(), step))
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def in_processes():
    return dict(
        reductions=[count_reductions(type='OptimWrapper'),
                    count_reductions(type='SplitSAM', rho=RHO)],
        random={sync: random_directions(sync) for sync in (False, True)},
        ddp={name: with_options_of_ddp(**DDP[name]) for name in DDP},
        branches=[branches(ratio) for ratio in (0.25, 0.75)])


@pytest.fixture(scope='module')
def pair():
    return launch(in_processes, 2)


def test_gradients_are_reduced_once_a_step_as_sgd_s_are(pair):
    for result in pair:
        sgd, splitsam = result['reductions']
        assert sgd == splitsam == STEPS


def test_random_directions_are_each_process_s_own_unless_synchronized(pair):
    own, alike = ([result['random'][sync] for result in pair]
                  for sync in (False, True))
    assert (own[0] - own[1]).norm() > RHO
    torch.testing.assert_close(*alike, rtol=0, atol=1e-12)


@pytest.mark.parametrize('i', [0, 1], ids=['in the second', 'in the first'])
def test_processes_agree_on_a_parameter_that_one_pass_uses(pair, i):
    one, other = (result['branches'][i] for result in pair)
    torch.manual_seed(0)
    before = Branches().double().state_dict()
    for name in one:
        assert torch.equal(one[name], other[name]), name
        assert not torch.equal(one[name], before[name]), name


@pytest.mark.parametrize('name', sorted(set(DDP) - {'default'}))
def test_options_of_ddp_change_nothing(pair, name):
    for result in pair:
        torch.testing.assert_close(
            result['ddp'][name], result['ddp']['default'], rtol=0, atol=1e-12)


# -- what is logged --

def test_the_logged_loss_is_that_of_the_first_part():
    model, expected = build(), build()
    wrapper = wrap(model, type='SplitSAM', rho=RHO, ratio=0.25)
    selections = record_selections(wrapper)
    logged = model.train_step(batch(), wrapper)['loss']
    part = selections[0].ascent
    target = torch.stack([s.gt for s in batch()['data_samples']])[part]
    losses = (expected.net(batch()['inputs'][part]) - target).pow(2).sum(1)
    torch.testing.assert_close(logged, losses.mean())


def test_a_training_logs_the_cost_of_sgd(tmp_path):
    run = runner(tmp_path, dict(type='SplitSAM', rho=RHO))
    run.train()
    last = scalars(run)[-1]
    assert last['ausam/ratio_used'] == 1
    assert last['ausam/sgd_steps'] == 12
    assert run.optim_wrapper.samples_backpropagated == 4 * 24
