"""What ausam_mm.internals relies on is there, and does what it says."""

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader

from ausam_mm import internals

from .processes import launch


def wrapper(**options):
    layer = nn.Linear(2, 2)
    return layer, OptimWrapper(
        torch.optim.SGD(layer.parameters(), lr=0.1), **options)


def test_an_uncounted_backward_leaves_the_count_of_micro_batches():
    layer, base = wrapper(accumulative_counts=2)
    base.initialize_count_status(layer, 3, 8)
    internals.uncounted_backward(base, layer(torch.ones(1, 2)).sum())
    assert base.inner_count == 3
    assert layer.weight.grad.eq(1).all() and layer.bias.grad is not None


def test_an_uncounted_backward_differentiates_the_inputs_alone():
    layer, base = wrapper()
    internals.uncounted_backward(
        base, layer(torch.ones(1, 2)).sum(), [layer.bias])
    assert layer.weight.grad is None and layer.bias.grad is not None


def test_a_counted_micro_batch_ends_the_accumulation():
    layer, base = wrapper(accumulative_counts=2)
    internals.count_micro_batch(base)
    assert base.inner_count == 1 and not base.should_update()
    internals.count_micro_batch(base)
    assert base.should_update()


def test_accumulation_and_length_of_the_training_are_read():
    layer, base = wrapper(accumulative_counts=4)
    assert internals.accumulation(base) == 4
    assert internals.total_micro_batches(base) == -1
    base.initialize_count_status(layer, 0, 20)
    assert internals.total_micro_batches(base) == 20


def test_copies_of_a_sample_have_its_index():
    dataset = BaseDataset(serialize_data=False, lazy_init=True)
    dataset.data_list, dataset._fully_initialized = [{}, {}, {}], True
    repeated = RepeatDataset(dataset, times=2)
    assert internals.has_copies(repeated)
    assert not internals.has_copies(dataset)
    assert [internals.original_index(repeated, i) for i in range(6)] == [
        0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize('options', [
    dict(), dict(num_workers=1),
    dict(num_workers=1, persistent_workers=True)], ids=str)
def test_the_loader_that_asks_for_batches_is_known(options):
    found = []

    class Asked(BatchSampler):

        def __iter__(self):
            found.append(internals.asking_loader())
            return super().__iter__()

    batches = Asked(range(4), 2, False)
    loader = DataLoader(range(4), batch_sampler=batches, **options)
    for _ in range(2):
        assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
    assert len(found) >= 2 and all(one is loader for one in found)
    assert list(batches) and found[-1] is None


@pytest.mark.parametrize('workers', [0, 2])
def test_a_loader_is_as_many_batches_ahead_as_it_says(workers):
    asked = []

    class Counted(BatchSampler):

        def __iter__(self):
            for batch in super().__iter__():
                asked.append(batch)
                yield batch

    loader = DataLoader(range(20), num_workers=workers, batch_sampler=Counted(
        range(20), 1, False))
    ahead = workers * (loader.prefetch_factor or 0)
    for i, _ in enumerate(loader):
        assert len(asked) == min(20, i + 1 + ahead)


def test_every_batchnorm_of_torch_is_one():
    assert all(internals.is_batchnorm(kind(3)) for kind in (
        nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm))
    assert not internals.is_batchnorm(nn.GroupNorm(1, 3))


def test_leaves_of_nested_containers_can_be_replaced():
    leaves, rebuild = internals.flatten(((1, [2, 3]), dict(a=(4, ))))
    assert leaves == [1, 2, 3, 4]
    assert rebuild([5, 6, 7, 8]) == ((5, [6, 7]), dict(a=(8, )))


def static_graph_passes():
    """Whether DDP records usage before, and after, its first pass."""
    found = []
    for static in (True, False):
        ddp = DistributedDataParallel(nn.Linear(2, 2), static_graph=static)
        for _ in range(2):
            found.append(internals.records_usage(ddp))
            ddp(torch.ones(1, 2)).sum().backward()
    dist.barrier()
    return found


def test_ddp_records_usage_in_the_first_pass_on_a_static_graph():
    assert launch(static_graph_passes, 1) == [[True, False, False, False]]


def test_a_function_that_is_not_compiled_runs_as_it_stands():

    @internals.not_compiled
    def compiling():
        return torch.compiler.is_compiling()

    @torch.compile(backend='eager')
    def outer(x):
        return x + compiling()

    assert outer(torch.zeros(())) == 0
