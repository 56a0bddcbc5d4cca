"""DDP, FSDP and SyncBatchNorm over NCCL, a process for each GPU.

On a CPU they run over gloo in two processes, without SyncBatchNorm, which
PyTorch has for GPUs only.
"""

import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.model.wrappers import MMFullyShardedDataParallel
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from ..processes import launch
from ..toy import batch, build, wrap
from .trainings import METHODS, vector

STEPS = 4
SYNCHRONIZED = dict(METHODS['SAM'], sync_perturbation=True)


def data_of(rank, step):
    return batch(seed=100 * rank + step, first_index=16 * rank)


def place(device):
    """This process's device."""
    return torch.device(device, dist.get_rank() if device == 'cuda' else None)


def distribute(model, device):
    return MMDistributedDataParallel(
        model, device_ids=[dist.get_rank()] if device == 'cuda' else None)


def train(outer, model, steps=STEPS, **options):
    wrapper = wrap(model, **options)
    for step in range(steps):
        outer.train_step(data_of(dist.get_rank(), step), wrapper)
    return wrapper


def ddp(device, **options):
    """The weights, and the table of the samples' scores."""
    model = build().to(place(device))
    wrapper = train(distribute(model, device), model, **options)
    table = wrapper.history.state_dict() if options['type'] == 'AUSAM' else {}
    return dict(weights=vector(model), table=table)


def fsdp(device, **options):
    """The weights of all parts."""
    outer = MMFullyShardedDataParallel(
        build().to(place(device)), device_id=place(device),
        auto_wrap_policy=ModuleWrapPolicy({nn.Linear}))
    train(outer, outer, **options)
    with FullyShardedDataParallel.summon_full_params(outer):
        return dict(weights=vector(outer))


def statistics(device):
    """Those after a step, and what they should be."""
    model = build(norm=True)
    start = copy.deepcopy(model)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model).to(place(device))
    train(distribute(model, device), model, steps=1, **METHODS['AUSAM'])
    joined = torch.cat([data_of(rank, 0)['inputs']
                        for rank in range(dist.get_world_size())])
    return dict(
        counted=int(model.net[1].num_batches_tracked),
        mean=model.net[1].running_mean.cpu(),
        expected=0.1 * start.net[0](joined).mean(0).detach())


def work(device):
    results = {name: ddp(device, **options)
               for name, options in METHODS.items()}
    results['synchronized'] = ddp(device, **SYNCHRONIZED)
    if dist.get_world_size() > 1:
        results['fsdp'] = fsdp(device, **METHODS['SAM'])
        results['fsdp AUSAM'] = fsdp(device, **METHODS['AUSAM'])
    if device == 'cuda':
        results['statistics'] = statistics(device)
    return results


@pytest.fixture(scope='module')
def results(device):
    if device == 'cpu':
        return launch(work, 2, device)
    return launch(work, torch.cuda.device_count(), device, backend='nccl')


def test_all_processes_end_with_the_same_weights_and_table(results):
    start = vector(build())
    for name, first in results[0].items():
        if name == 'statistics':
            continue
        assert first['weights'].isfinite().all(), name
        assert not torch.equal(first['weights'], start), name
        for other in results[1:]:
            torch.testing.assert_close(
                other[name], first, rtol=0, atol=0, msg=name)


def test_the_table_holds_the_samples_of_all_processes(results):
    keys = results[-1]['AUSAM']['table']['keys']
    assert sorted(keys.tolist()) == list(range(16 * len(results)))


def test_fsdp_trains_as_ddp_with_a_synchronized_perturbation(results):
    if len(results) == 1:
        pytest.skip('One GPU has nothing to shard over.')
    torch.testing.assert_close(
        results[0]['fsdp']['weights'], results[0]['synchronized']['weights'],
        rtol=0, atol=1e-9)


def test_syncbatchnorm_sees_the_batches_of_all_processes_once(
        device, results):
    if device == 'cpu':
        pytest.skip('SyncBatchNorm is for GPUs.')
    for result in results:
        seen = result['statistics']
        assert seen['counted'] == 1
        torch.testing.assert_close(seen['mean'], seen['expected'])
