"""What ausam_mm.internals relies on is there, and does what it says."""

import collections

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

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


def test_a_forgotten_scalar_is_in_no_checkpoint():
    hub = MessageHub.get_instance('forgotten')
    for name in ('kept', 'dropped'):
        hub.update_scalar(name, 1.)
    for name in ('dropped', 'unknown'):
        internals.forget_scalar(hub, name)
    state = hub.state_dict()
    assert state['log_scalars'].keys() == {'kept'}
    assert state['resumed_keys'].keys() == {'kept'}


def test_copies_of_a_sample_have_its_index():
    dataset = BaseDataset(serialize_data=False, lazy_init=True)
    dataset.data_list, dataset._fully_initialized = [{}, {}, {}], True
    repeated = RepeatDataset(dataset, times=2)
    assert internals.has_copies(repeated)
    assert not internals.has_copies(dataset)
    assert [internals.original_index(repeated, i) for i in range(6)] == [
        0, 1, 2, 0, 1, 2]


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


def test_a_refused_global_is_named(tmp_path):
    for content, reason in ((collections.UserDict, 'it asks for '
                             'collections.UserDict'),
                            (torch.no_grad, 'it asks for '
                             'torch.autograd.grad_mode.no_grad'),
                            (print, 'it asks for print')):
        torch.save(content, tmp_path / 'file.pth')
        with pytest.raises(Exception) as caught:
            torch.load(tmp_path / 'file.pth', weights_only=True)
        assert internals.weights_only_refusal(caught.value) == reason


def test_only_refusals_have_a_reason():
    assert internals.weights_only_refusal(RuntimeError('no file')) is None
    assert internals.weights_only_refusal(ValueError('no shape')) is None
