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
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.data import BatchSampler, DataLoader

from ausam_mm import internals

from .processes import launch


def wrapper(**options):
    layer = nn.Linear(2, 2)
    return layer, OptimWrapper(
        torch.optim.SGD(layer.parameters(), lr=0.1), **options)


def test_the_count_of_micro_batches_can_be_set():
    layer, base = wrapper(accumulative_counts=2)
    base.backward(layer(torch.ones(1, 2)).sum())
    assert base.inner_count == 1 and not base.should_update()
    internals.set_inner_count(base, 4)
    assert base.inner_count == 4 and base.should_update()


def test_a_backward_pass_differentiates_the_inputs_alone():
    layer, base = wrapper()
    base.backward(layer(torch.ones(1, 2)).sum(), inputs=[layer.bias])
    assert layer.weight.grad is None and layer.bias.grad is not None


class OwnClipping(OptimWrapper):

    def _clip_grad(self):
        pass


class OwnStep(OptimWrapper):

    def step(self, **kwargs):
        self.optimizer.step(**kwargs)


def test_clipping_by_norm_goes_through_clip_func():
    _, base = wrapper(clip_grad=dict(max_norm=1.))
    assert internals.clips_by_norm(base)
    base.optimizer.param_groups[0]['params'][0].grad = torch.ones(2, 2)
    norms = []
    base.clip_func = lambda params, **options: norms.append((params, options))
    base.step()
    (params, options), = norms
    assert len(params) == 1 and options == dict(max_norm=1.)
    assert not internals.clips_by_norm(base)


def test_other_clipping_is_not_by_norm():
    assert not internals.clips_by_norm(wrapper()[1])
    assert not internals.clips_by_norm(
        wrapper(clip_grad=dict(type='value', clip_value=1.))[1])
    for kind in (OwnClipping, OwnStep):
        optimizer = wrapper()[1].optimizer
        assert not internals.clips_by_norm(
            kind(optimizer, clip_grad=dict(max_norm=1.)))


def test_a_gradient_hook_can_be_removed():
    p = nn.Parameter(torch.ones(2))
    internals.remove_gradient_hook(p, print)  # it is not there
    seen = []
    hook = seen.append
    p.register_post_accumulate_grad_hook(hook)
    p.sum().backward()
    assert seen == [p]
    internals.remove_gradient_hook(p, hook)
    p.sum().backward()
    assert len(seen) == 1


def test_changes_in_place_count():
    x = torch.zeros(2)
    before = internals.version(x)
    with torch.no_grad():
        x.add_(1)
        torch._foreach_add_([x], 1)
    assert internals.version(x) >= before + 2


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


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('release', ['this one', 'PyTorch 2.3'])
def test_what_autocast_casts_to_is_known(release, monkeypatch):

    def look():
        with monkeypatch.context() as patch:
            if release == 'PyTorch 2.3':
                patch.delattr(torch, 'get_autocast_dtype', raising=False)
            return [internals.autocast_dtype(device)
                    for device in ('cpu', 'cuda')]

    assert look() == [None, None]
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast('cpu', dtype):
            assert look() == [dtype, None]
            with torch.autocast('cpu', enabled=False):
                assert look() == [None, None]


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


def test_a_tensor_knows_whether_it_owns_its_memory():
    p = nn.Parameter(torch.ones(3, 4))
    assert internals.owns_memory(p)
    alias = p.detach()
    assert not internals.owns_memory(p)
    del alias
    p.sum().backward()
    loss = (p * p).sum()  # whose graph holds the weight itself
    assert internals.owns_memory(p) and loss.requires_grad
    flat = torch.ones(12)
    part = nn.Parameter(flat[:6])
    assert not internals.owns_memory(part)
    del flat
    assert not internals.owns_memory(part)  # the rest is nobody's
    assert not internals.owns_memory(nn.Parameter(
        TwoTensor(torch.ones(2), torch.ones(2))))


def test_without_pytorchs_count_no_tensor_owns_its_memory(monkeypatch):
    monkeypatch.delattr(torch._C, '_storage_Use_Count')
    assert not internals.owns_memory(nn.Parameter(torch.ones(3)))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_values_pass_only_where_another_lies_inside_the_bounds(dtype):
    inf = float('inf')
    x = torch.tensor([-inf, -3., -2., -1.999, 0., 0.999, 1., 5., inf] * 5)
    values = torch.arange(1., 46.)
    values[::9] = inf  # outside
    inside = internals.where_inside(
        values.to(dtype), x.to(dtype), -2, 1)
    want = torch.where((x > -2) & (x < 1), values, 0.).to(dtype)
    assert torch.equal(inside, want)
