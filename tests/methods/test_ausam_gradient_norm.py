"""AUSAM by the norms of the samples' gradients, against loops in torch."""

import copy

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from torch import nn

from ausam_mm.sampling import Selection, select_multinomial

from ..losses import toy as losses_toy
from ..processes import launch
from ..runs import runner
from ..toy import (
    ToyModel,
    batch,
    build,
    difference,
    sample_losses,
    wrap,
)

ORACLE = dict(type='AUSAM', scores='gradient_norm', rho=0.3, warmup_iters=1,
              ramp_iters=0, seed=0)


def record_norms(wrapper):
    """The list that the norms of each step are appended to from now on."""
    found, select = [], wrapper.select_by_gradient_norm

    def recorded(step, norms):
        found.append(norms)
        return select(step, norms)

    wrapper.select_by_gradient_norm = recorded
    return found


def norm_of(loss, model):
    grads = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([grad.flatten() for grad in grads]).norm()


def reference_norms(model, data):
    """Sample by sample, the network as in evaluation, shape (b, )."""
    model = copy.deepcopy(model).eval()
    return torch.stack([
        norm_of(sample_losses(model, dict(
            inputs=data['inputs'][i:i + 1],
            data_samples=data['data_samples'][i:i + 1]))[0], model)
        for i in range(len(data['inputs']))])


@pytest.mark.parametrize('options, scale', [
    (dict(), 1), (dict(norm=True, dropout=0.3), 1),
    (dict(norm=True, reduction='sum'), 16)], ids=str)
def test_the_scores_are_the_norms_of_each_sample_in_evaluation(
        options, scale):
    model = build(**options)
    wrapper = wrap(model, lr=0.05 / scale, **ORACLE)
    found = record_norms(wrapper)
    for i in range(6):
        expected = reference_norms(model, batch(i))
        model.train_step(batch(i), wrapper)
        if i:  # a sum is scaled from a sample to the batch
            torch.testing.assert_close(found[-1], scale * expected)
    assert len(found) == 5
    assert found[-1].std() > 0.1 * found[-1].mean()


@pytest.mark.parametrize('favor', ['high', 'low'])
def test_samples_are_drawn_in_proportion_to_the_norms(favor, monkeypatch):
    drawn = []

    def highest(q, num_ascent, num_descent, generator):
        drawn.append(q)
        order = q.argsort(descending=True)
        return Selection(16, order[:num_descent].sort().values,
                         order[:num_ascent].sort().values)

    monkeypatch.setattr('ausam_mm.methods.ausam.select_multinomial', highest)
    model = build()
    wrapper = wrap(model, **dict(ORACLE, alpha=(0.25, 0.75), favor=favor))
    model.train_step(batch(), wrapper)
    for _ in range(3):
        norms = reference_norms(model, batch())
        seen = []
        handle = model.net.register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(args[0]))
        model.train_step(batch(), wrapper)
        handle.remove()
        relative = (norms - norms.min()) / (norms.max() - norms.min())
        if favor == 'low':
            relative = 1 - relative
        torch.testing.assert_close(drawn[-1], 0.1 + 0.4 * relative)
        order = relative.argsort(descending=True)
        assert torch.equal(seen[-2], batch()['inputs'][order[:4].sort()[0]])
        assert torch.equal(seen[-1], batch()['inputs'][order[:12].sort()[0]])


@pytest.mark.parametrize('options', [
    dict(), dict(accumulative_counts=3), dict(base=dict(
        type='CPUAmpOptimWrapper', dtype='bfloat16', loss_scale=8.))],
    ids=str)
def test_the_passes_of_single_samples_leave_no_trace(options):
    """With all samples selected it is SAM, bit for bit."""
    build_ = build if 'base' not in options else (
        lambda **kwargs: build(**kwargs).float())
    oracle, sam = (build_(norm=True, dropout=0.3) for _ in range(2))
    wrapper = wrap(oracle, **ORACLE, **options)
    found = record_norms(wrapper)
    record = wrapper.select_by_gradient_norm

    def select_all(step, norms):
        record(step, norms)
        return Selection.full_batch(16)

    wrapper.select_by_gradient_norm = select_all
    wrappers = [wrapper, wrap(sam, type='SAM', rho=0.3, **options)]
    for model, each in zip((oracle, sam), wrappers):
        torch.manual_seed(1)
        each.initialize_count_status(model, 0, 12)
        for i in range(12):
            model.train_step(batch(i), each)
    assert len(found) == 11
    for name, value in sam.state_dict().items():
        assert torch.equal(value, oracle.state_dict()[name]), name
    assert difference(sam, build_(norm=True, dropout=0.3)) > 1e-3


def test_the_norms_are_not_those_of_autocast():
    model = build().float()
    wrapper = wrap(model, **ORACLE, base=dict(
        type='CPUAmpOptimWrapper', dtype='bfloat16', loss_scale=2.**40))
    found = record_norms(wrapper)
    data = batch()
    data['inputs'] = data['inputs'].float()
    model.train_step(data, wrapper)
    expected = reference_norms(model, data)
    model.train_step(data, wrapper)
    torch.testing.assert_close(found[0], expected.double(), rtol=1e-5,
                               atol=1e-6)


def test_class_weights_and_ignored_labels_count_as_in_the_batch():
    """The gradients are those of what each sample adds to the batch's."""
    weight = torch.tensor([1., 5., 0.2, 3., 1.]).double()
    model = losses_toy.make(
        lambda model, features, labels: model.loss_module(
            model.fc(features), labels),
        loss_module=nn.CrossEntropyLoss(weight, ignore_index=4))
    wrapper = losses_toy.ausam(model, scores='gradient_norm')
    found = record_norms(wrapper)
    data = losses_toy.batch()
    labels = torch.stack([sample.gt for sample in data['data_samples']])
    assert labels.eq(4).any() and labels.unique().numel() == 5
    for _ in range(2):
        model.train_step(data, wrapper)
    own = nn.CrossEntropyLoss(weight, ignore_index=4, reduction='none')(
        model.fc(model.net(data['inputs'])), labels)
    divisor = (weight[labels] * labels.ne(4)).mean()
    expected = []
    for loss in own / divisor:
        grads = torch.autograd.grad(
            loss, [*model.net.parameters(), *model.fc.parameters()],
            retain_graph=True)
        expected.append(torch.cat([grad.flatten() for grad in grads]).norm())
    torch.testing.assert_close(found[0], torch.stack(expected))
    assert found[0].eq(0).equal(labels.eq(4))


def test_each_sample_counts_as_back_propagated_once_more():
    model = build()
    MessageHub.get_instance('oracle')
    wrapper = wrap(model, **ORACLE, alpha=(0.25, 0.75))
    for i in range(5):
        model.train_step(batch(i), wrapper)
    hub = wrapper.base.message_hub
    # A warm-up of 2 passes; then 1 of single samples, and the two ratios.
    assert wrapper.samples_backpropagated == 32 + 4 * (16 + 4 + 12)
    assert hub.get_scalar('train/ausam/sgd_steps').current() == 2 + 4 * 2
    assert not len(wrapper.history)


def test_alpha_of_1_needs_no_gradients_of_samples():
    model, sam = build(), build()
    wrapper = wrap(model, **ORACLE, alpha=1.)
    found = record_norms(wrapper)
    other = wrap(sam, type='SAM', rho=0.3)
    for i in range(3):
        model.train_step(batch(i), wrapper)
        sam.train_step(batch(i), other)
    assert not found and difference(model, sam) == 0


@pytest.mark.parametrize('favor', ['high', 'low'])
def test_a_sample_without_a_finite_gradient_is_the_least_likely(
        favor, monkeypatch):
    drawn = []

    def recorded(q, *args):
        drawn.append(q)
        return select_multinomial(q, *args)

    monkeypatch.setattr('ausam_mm.methods.ausam.select_multinomial', recorded)
    model = build()
    wrapper = wrap(model, **ORACLE, favor=favor)
    found = record_norms(wrapper)
    model.train_step(batch(), wrapper)
    data = batch()
    data['inputs'][3] = float('nan')
    model.train_step(data, wrapper)
    assert found[0][3] == -float('inf')
    assert found[0].isfinite().sum() == 15
    assert drawn[0][3] == 0.1 and drawn[0].max() == 0.5
    assert drawn[0].eq(0.1).sum() == 2  # and the one that is favored least


def test_a_sample_needs_no_identity():
    model = build()
    data = batch()
    for sample in data['data_samples']:
        del sample.sample_idx
    wrapper = wrap(model, **ORACLE)
    for _ in range(2):
        model.train_step(data, wrapper)
    assert wrapper.samples_backpropagated == 32 + 16 + 16


def test_a_resumed_training_selects_the_same(tmp_path):
    options = dict(wrapper=ORACLE, by_epoch=False, length=6, exact=True)
    whole = runner(tmp_path / 'a', **options)
    whole.train()
    resumed = runner(tmp_path / 'b', **options, resume=True,
                     load_from=str(tmp_path / 'a' / 'iter_3.pth'))
    resumed.train()
    assert difference(whole.model, resumed.model) == 0


# -- what cannot work --


class NeedsTwo(ToyModel):
    """Fails on a single sample."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if len(inputs) == 1:
            raise RuntimeError('one is too few')
        return super().forward(inputs, data_samples, mode)


def test_a_model_that_fails_on_a_single_sample_is_refused():
    model = NeedsTwo().double().train()
    wrapper = wrap(model, **ORACLE)
    model.train_step(batch(), wrapper)
    with pytest.raises(ValueError) as error:
        model.train_step(batch(), wrapper)
    assert str(error.value) == (
        'NeedsTwo has no gradient of a sample alone (RuntimeError: one is '
        "too few), which scores='gradient_norm' needs: leave scores out.")
    assert not any(part._forward_hooks for part in model.modules())


def test_sharded_parameters_are_refused_in_the_first_step(monkeypatch):
    monkeypatch.setattr('ausam_mm.methods.ausam.is_fsdp', lambda model: True)
    model = build()
    with pytest.raises(ValueError, match='FSDP averages over .*with DDP'):
        model.train_step(batch(), wrap(model, **ORACLE))


def test_a_batch_sampler_that_loads_the_selected_alone_is_refused(tmp_path):
    run = runner(tmp_path, wrapper=ORACLE)
    run._train_dataloader.update(
        batch_sampler=dict(type='AUSAMBatchSampler'))
    with pytest.raises(ValueError, match='needs all samples of a batch'):
        run.train()


def test_a_loop_of_iterations_asks_for_iterations():
    MessageHub.get_instance('no Runner here')
    model = build()
    with pytest.raises(ValueError, match="With scores='gradient_norm' no sam"):
        model.train_step(batch(), wrap(
            model, type='AUSAM', scores='gradient_norm'))


# -- several processes --

UNEVEN = (8, 5)  # samples of a batch of each process


def norms_in_a_process():
    model = build(norm=True)
    outer = MMDistributedDataParallel(model, find_unused_parameters=True)
    wrapper = wrap(model, **ORACLE)
    found, expected = record_norms(wrapper), []
    for i in range(4):
        data = batch(2 * i + get_rank(), UNEVEN[get_rank()])
        expected.append(reference_norms(model, data))
        outer.train_step(data, wrapper)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return found, expected[1:], weights


@pytest.mark.slow
def test_each_process_has_the_norms_of_its_own_samples():
    results = launch(norms_in_a_process, 2)
    for found, expected, _ in results:
        assert len(found) == 3
        torch.testing.assert_close(found, expected)
    assert torch.equal(results[0][2], results[1][2])
