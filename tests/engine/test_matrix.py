"""Every combination of precision, accumulation, clipping, processes, method.

Each against a reference in torch that plays all processes in one, knows
nothing of ausam_mm or DDP, and is given the selections. Tolerances are the
largest absolute difference of a weight after seven steps; an accumulation of
three leaves the last step alone.
"""

from contextlib import nullcontext
from itertools import product

import pytest
import torch
from mmengine.model import MMDistributedDataParallel

from ..processes import launch
from ..toy import ToyModel, batch, record_selections, wrap

STEPS = 7
RHO = 0.3
SCALE = 2.**10
MAX_NORM = 1.
TOLERANCE = dict(float32=2e-6, bfloat16=2e-3, float16=3e-4)
CASES = [
    dict(precision=precision, accumulation=accumulation, clip=clip,
         method=method, norm=norm)
    for precision, accumulation, clip, method, norm in product(
        TOLERANCE, (1, 3), (True, False), ('SAM', 'AUSAM'), (True, False))
]


def name_of(case):
    return '-'.join(str(value) for value in case.values())


def make_model(case):
    torch.manual_seed(0)
    return ToyModel(norm=case['norm']).train()


def make_batch(rank, step):
    data = batch(seed=100 * rank + step, first_index=16 * rank)
    data['inputs'] = data['inputs'].float()
    for sample in data['data_samples']:
        sample.gt = sample.gt.float()
    return data


def train(cases, rank=0, distributed=False):
    """Trains each case; returns weights, history and samples seen."""
    results = []
    for case in cases:
        model = make_model(case)
        outer = MMDistributedDataParallel(model) if distributed else model
        options = dict(warmup_iters=1) if case['method'] == 'AUSAM' else {}
        base = None
        if case['precision'] != 'float32':
            base = dict(
                type='CPUAmpOptimWrapper',
                dtype=case['precision'],
                loss_scale=dict(init_scale=SCALE, growth_interval=1000))
        wrapper = wrap(
            model,
            type=case['method'],
            rho=RHO,
            base=base,
            accumulative_counts=case['accumulation'],
            clip_grad=dict(max_norm=MAX_NORM) if case['clip'] else None,
            **options)
        wrapper.initialize_count_status(model, 0, STEPS)
        selections = record_selections(wrapper)
        for step in range(STEPS):
            outer.train_step(make_batch(rank, step), wrapper)
        results.append(
            dict(
                weights=model.state_dict(),
                history=wrapper.history.state_dict()
                if case['method'] == 'AUSAM' else None,
                seen=[selection.descent if selection else torch.arange(16)
                      for selection in selections]))
    return results


def train_in_process(cases):
    return train(cases, torch.distributed.get_rank(), distributed=True)


def reference(case, seen):
    """The same in torch, given the samples that each process sees.

    Returns:
        tuple: The model and the DLPs of each sample, by its key.
    """
    model = make_model(case)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    params = list(model.parameters())
    dlp = {}
    cast = nullcontext() if case['precision'] == 'float32' else \
        torch.autocast('cpu', getattr(torch, case['precision']),
                       cache_enabled=False)
    scale = 1. if case['precision'] == 'float32' else SCALE

    def gradient(data, index, moves):
        if case['norm']:
            model.net[1].momentum = 0.1 if moves else 0.
        target = torch.stack([s.gt for s in data['data_samples']])[index]
        with cast:
            pred = model.net(data['inputs'][index])
            losses = (pred - target).pow(2).sum(1)
        grads = torch.autograd.grad(losses.mean() * scale, params)
        return losses.detach(), [g / scale for g in grads]

    group = []
    for step in range(STEPS):
        mean = [torch.zeros_like(p) for p in params]
        for rank, selected in enumerate(seen):
            data, index = make_batch(rank, step), selected[step]
            before, grads = gradient(data, index, moves=rank == 0)
            norm = torch.cat([g.flatten() for g in grads]).norm()
            at_w = [p.detach().clone() for p in params]
            for p, g in zip(params, grads):
                p.data = p.data + RHO * g / norm
            after, grads = gradient(data, index, moves=False)
            for p, w in zip(params, at_w):
                p.data = w
            for total, g in zip(mean, grads):
                total += g / len(seen)
            for i, d in zip(index.tolist(), (after - before).abs().tolist()):
                dlp.setdefault(16 * rank + i, []).append(d)
        group.append(mean)
        if len(group) == case['accumulation'] or step == STEPS - 1:
            for p, *grads in zip(params, *group):
                p.grad = sum(grads) / len(group)
            if case['clip']:
                torch.nn.utils.clip_grad_norm_(params, MAX_NORM)
            optimizer.step()
            group = []
    return model, dlp


@pytest.fixture(scope='module')
def on_two_processes():
    results = launch(train_in_process, 2, CASES)
    return {name_of(case): [result[i] for result in results]
            for i, case in enumerate(CASES)}


@pytest.mark.parametrize('num_processes', [1, 2])
@pytest.mark.parametrize('case', CASES, ids=name_of)
def test_every_combination_matches_a_loop_in_torch(
        case, num_processes, request):
    results = train([case]) if num_processes == 1 else \
        request.getfixturevalue('on_two_processes')[name_of(case)]
    model, dlp = reference(case, [result['seen'] for result in results])
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
        assert weights['net.1.num_batches_tracked'] == STEPS
    if case['method'] == 'AUSAM':
        for result in results:
            table = result['history']
            counts = zip(table['keys'].tolist(), table['counts'].tolist())
            assert dict(counts) == {
                key: len(values) for key, values in dlp.items()}
            torch.testing.assert_close(
                table['means'],
                torch.tensor([sum(dlp[key]) / len(dlp[key])
                              for key in table['keys'].tolist()],
                             dtype=torch.float64),
                rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize('precision', TOLERANCE)
def test_the_tolerances_tell_sam_from_sgd(precision):
    case = dict(precision=precision, accumulation=1, clip=False, method='SAM',
                norm=False)
    model = make_model(case)
    wrapper = wrap(model, type='OptimWrapper')
    for step in range(STEPS):
        model.train_step(make_batch(0, step), wrapper)
    sam = train([case])[0]['weights']
    apart = max((sam[name] - p).abs().max() for name, p in
                model.named_parameters())
    assert apart > 10 * TOLERANCE[precision]
