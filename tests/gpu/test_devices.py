"""Every method on a GPU that is not there: tensors with a device, no values.

PyTorch's fake tensors refuse what a GPU refuses, computing with tensors of two
devices, so that a machine without a GPU sees it. What needs values is stood in
for: the gradients, the selection, and what Python reads.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ausam_mm.engine import step as engine
from ausam_mm.engine.forward_state import ForwardState
from ausam_mm.engine.isolation import StatisticsCopy
from ausam_mm.losses import per_sample
from ausam_mm.losses.record import PassRecord, Reduction
from ausam_mm.methods import random_sam
from ausam_mm.sampling import Selection, batch

from .. import toy

aten = torch.ops.aten
# How often values are read: before the optimizer's step whether the gradient
# is finite, and what a method decides by; after it what is logged, the checks
# of the losses, and what the table learns.
METHODS = dict(
    SAM=(1, 1, {}), AUSAM=(1, 3, dict(alpha=0.5)), FSAM=(1, 1, {}),
    MSAM=(1, 1, {}), LookSAM=(1, 1, dict(k=2)), SSSAM=(1, 0, {}),
    KSAM=(2, 2, {}), ESAM=(2, 2, {}), VSAM=(2, 1, dict(rate=1.)),
    AESAM=(2, 1, {}), AELookSAM=(2, 1, {}), GSAM=(1, 1, {}),
    RandomSAM=(1, 0, {}), SplitSAM=(1, 2, {}), SAMPa=(1, 2, {}))


class Reads(TorchDispatchMode):
    """Counts what is read from a GPU; every value is 1."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (aten._local_scalar_dense.default,
                        aten.is_nonzero.default):
            self.count += args[0].is_cuda
            return args[0].dtype == torch.bool or 1.
        if function is aten._to_copy.default and args[0].is_cuda:
            self.count += kwargs.get('device') == torch.device('cpu')
        return function(*args, **kwargs)


def stand_in(monkeypatch, model, wrapper):
    """For what a tensor without values, or no GPU, cannot do."""

    def backward(loss, inputs=None):
        assert loss.is_cuda
        for p in inputs or model.parameters():
            p.grad = torch.ones_like(p) + (0 if p.grad is None else p.grad)
        wrapper.base._inner_count += 1

    def positions(part, index, size):
        if isinstance(part, list) and len(part) == size:
            return part[:len(index)]
        return take(part, index, size)

    take = batch._take
    monkeypatch.setattr(batch, '_take', positions)
    monkeypatch.setattr(wrapper.base, 'backward', backward)
    # A generator has a device that is there.
    monkeypatch.setattr(
        random_sam, 'step_generator', lambda *_, device: None)
    monkeypatch.setattr(engine, 'get_random_states', lambda model: 'none')
    monkeypatch.setattr(engine, 'set_random_states', lambda states: None)
    # No gradient has come through the loss modules.
    monkeypatch.setattr(PassRecord, 'weighted_terms', lambda self: [
        (term, torch.ones_like(term.output)) for term in self.terms])
    monkeypatch.setattr(torch.autograd, 'grad', lambda total, leaves, **_: [
        torch.ones_like(leaf) for leaf in leaves])
    # What is judged on values is known already.
    wrapper._forward_state = ForwardState(model)
    wrapper._forward_state._saves = 2
    wrapper._statistics = StatisticsCopy(model)
    if wrapper.needs_losses:
        losses = wrapper.per_sample_losses(model)
        losses.calls['loss_module'] = Reduction('mean', batched=[True, True])
        losses.verified = True
        monkeypatch.setattr(losses, 'is_due', lambda step: False)
        monkeypatch.setattr(per_sample, 'fits', lambda *_: True)
        monkeypatch.setattr(per_sample, 'outside', lambda *_: (0., 0.))
    if hasattr(wrapper, 'history'):
        monkeypatch.setattr(wrapper, '_learn', lambda keys, values: None)
        monkeypatch.setattr(wrapper, 'select', lambda data: Selection(
            16, torch.arange(12), torch.arange(4), keys=torch.arange(16)))


@pytest.mark.parametrize('method', METHODS)
def test_no_method_computes_on_two_devices(method, monkeypatch):
    reads, late_reads, options = METHODS[method]
    seen, after = [], []
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device('cuda'):
            model = toy.ToyModel(norm=True, dropout=0.1).train()
        model._set_device(torch.device('cuda'))
        wrapper = toy.wrap(model, type=method, rho=0.1, **options)
        wrapper.initialize_count_status(model, 0, 8)
        stand_in(monkeypatch, model, wrapper)
        step = wrapper.base.step
        with Reads() as mode:
            monkeypatch.setattr(
                wrapper.base, 'step', lambda: (seen.append(mode.count),
                                               step()))
            for number in range(4):
                mode.count = 0
                model.train_step(toy.batch(number), wrapper)
                after.append(mode.count - seen[-1])
        assert all(p.is_cuda for p in wrapper.perturbation._buffers.values())
    assert len(seen) == wrapper.num_steps == 4
    assert max(seen) == reads
    assert max(after) == late_reads
