"""InfoBatch in real trainings, against a loop written from the paper."""

import logging
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from torch.utils.data import BatchSampler

from ausam_mm import SAM as SAMWrapper
from ausam_mm import InfoBatchHook
from ausam_mm.internals import set_max_iters

from ..amp import CPUAmpOptimWrapper
from ..processes import launch
from ..runs import Samples, Stop, runner, scalars
from ..toy import ToyModel, build, difference, sample_losses, wrap

PLAIN = dict(type='OptimWrapper')
SAM = dict(type='SAM', rho=0.1)
SIZE, BATCH, EPOCHS, PRUNED = 60, 8, 8, 7
needs_engine = pytest.mark.skipif(
    not hasattr(wrap(build(), type='SAM'), 'last_losses'),
    reason='two-pass wrappers take no sample weights yet')


class Orders(Hook):
    """Keeps each epoch's order and checks which samples the batches hold."""

    def __init__(self):
        self.epochs, self.kept = [], []

    def before_train_epoch(self, runner):
        sampler = runner.train_dataloader.sampler
        self.epochs.append(sampler.order.clone())
        self.kept.append(sampler.kept)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        found = [sample.sample_idx for sample in data_batch['data_samples']]
        batches = self.epochs[-1].split(BATCH)
        assert found == batches[batch_idx].tolist()


def prepare(work_dir, wrapper=PLAIN, r=0.5, delta=0.875, hooks=(),
            loader=None, sampler='InfoBatchSampler', model=None,
            hook=dict(type='InfoBatchHook'), **options):  # noqa: B006
    options = {**dict(size=SIZE, length=EPOCHS), **options}
    run = runner(
        work_dir, wrapper, custom_hooks=[hook, *hooks],
        model=model or build(), **options)
    chosen = dict(type=sampler, shuffle=True)
    if sampler == 'InfoBatchSampler':
        chosen.update(r=r, delta=delta)
    run._train_dataloader.update(loader or {}, sampler=chosen)
    run.param_schedulers = None
    return run


def train(work_dir, stop=None, hooks=(), **options):
    hooks = [*hooks, Stop(stop)] if stop else hooks
    run = prepare(work_dir, hooks=hooks, **options)
    try:
        run.train()
    except KeyboardInterrupt:
        assert stop
    return run


@contextmanager
def messages():
    found, handler = [], logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    log = MMLogger.get_current_instance()
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)


def reference(epochs, r=0.5, weighted=True, reduction='mean', rho=None):
    """InfoBatch in plain torch, on given batches; returns model and losses.

    Args:
        epochs: For each epoch its batches of indices.
        weighted: Whether kept samples below the mean weigh more.
        rho: SAM's radius, or None for SGD.
    """
    model, data = build(reduction=reduction), Samples(size=SIZE).data
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=0.02, momentum=0.9)
    last = {}

    for epoch, batches in enumerate(epochs):
        low = set()
        if epoch < PRUNED and last:
            mean = sum(last.values()) / len(last)
            low = {i for i, loss in last.items() if loss < mean}
        assert set(range(SIZE)) - set(torch.cat(batches).tolist()) <= low
        for batch in batches:
            part = dict(
                inputs=data['inputs'][batch],
                data_samples=[data['data_samples'][i] for i in batch])
            factor = torch.tensor([
                1 / (1 - r) if weighted and int(i) in low else 1.
                for i in batch], dtype=torch.double)

            def gradient():
                losses = sample_losses(model, part)  # noqa: B023
                loss = getattr(factor * losses, reduction)()  # noqa: B023
                return losses.detach(), torch.autograd.grad(loss, params)

            losses, grads = gradient()
            if rho is not None:
                norm = torch.cat([g.flatten() for g in grads]).norm()
                at_w = [p.detach().clone() for p in params]
                for p, g in zip(params, grads):
                    p.data = p.data + rho * g / norm
                _, grads = gradient()
                for p, w in zip(params, at_w):
                    p.data = w
            for p, g in zip(params, grads):
                p.grad = g
            optimizer.step()
            if epoch < PRUNED:
                # The table holds float32.
                last.update(zip(batch.tolist(), losses.float().tolist()))
    return model, last


def assert_is_reference(run, orders, **options):
    batches = [order.split(BATCH) for order in orders.epochs]
    model, last = reference(batches, **options)
    assert difference(run.model, model) < 1e-12
    table = run.train_dataloader.sampler.losses
    want = torch.tensor([last[i] for i in range(SIZE)])
    torch.testing.assert_close(table, want, rtol=1e-6, atol=0)
    assert sum(map(len, batches)) >= 20
    # The test would notice if weighting did nothing.
    unweighted, _ = reference_without_weights(batches, options)
    assert difference(run.model, unweighted) > 1e-6


def reference_without_weights(batches, options):
    try:
        return reference(batches, **dict(options, weighted=False))
    except AssertionError:  # other weights, other losses, another mean
        return build(seed=1), None


@pytest.mark.parametrize('options', [
    dict(), dict(r=0.3), dict(reduction='sum'), dict(num_workers=2)], ids=str)
def test_infobatch_is_the_papers_algorithm(tmp_path, options):
    workers = options.pop('num_workers', 0)
    orders = Orders()
    run = train(
        tmp_path, hooks=[orders], r=options.get('r', 0.5),
        model=build(reduction=options.get('reduction', 'mean')),
        loader=dict(num_workers=workers, persistent_workers=workers > 0))
    assert_is_reference(run, orders, **options)
    assert len(orders.epochs[0]) == len(orders.epochs[-1]) == SIZE
    assert all(len(order) < SIZE for order in orders.epochs[1:PRUNED])
    kept = [line['infobatch/kept'] for line in scalars(run)]
    assert sorted(set(kept)) == sorted(set(orders.kept))


@pytest.mark.parametrize('wrapper', [
    PLAIN, SAM, dict(type='AUSAM', rho=0.1, alpha=0.5, warmup_iters=2)],
    ids=lambda wrapper: wrapper['type'])
def test_r_0_trains_as_without_infobatch_bit_for_bit(tmp_path, wrapper):
    states = []
    for name, options in dict(
            plain=dict(sampler='DefaultSampler', hook=Stop(10**6)),
            r=dict(r=0)).items():
        torch.manual_seed(0)
        run = train(
            tmp_path / name, wrapper=wrapper, length=3, noise=0.5,
            model=build(norm=True, dropout=0.1), exact=True, **options)
        assert run.iter == 3 * 8
        states.append([run.model.state_dict(), run.optim_wrapper.state_dict()])
        states[-1][1].get('ausam_mm', {}).pop('loss_modules', None)
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_infobatch_trains_with_mixed_precision(tmp_path, dtype):
    orders = Orders()
    run = train(
        tmp_path, hooks=[orders], model=build(norm=True).float(),
        wrapper=dict(type=CPUAmpOptimWrapper, dtype=dtype, loss_scale=64.))
    assert sum(orders.kept) < EPOCHS * SIZE
    assert run.train_dataloader.sampler.losses.isfinite().all()
    assert all(p.isfinite().all() for p in run.model.parameters())


class Contract(SAMWrapper):
    """A two-pass wrapper whose last batch's first pass saw places 5 and 2."""

    sample_weights = None

    def update_params(self, *args, **kwargs):
        given.append(self.sample_weights)
        self.sample_weights = None  # not what is tested here
        super().update_params(*args, **kwargs)

    @property
    def last_losses(self):
        return torch.tensor([5, 2]), torch.tensor([4., 0.5])

    @last_losses.setter
    def last_losses(self, value):
        pass


given = []


def test_a_two_pass_wrapper_is_given_weights_and_asked_for_losses(tmp_path):
    given.clear()
    orders = Orders()
    run = train(tmp_path, wrapper=dict(type=Contract), hooks=[orders],
                loader=dict(drop_last=True), length=4, delta=0.75)
    assert run.optim_wrapper.sample_weights is None
    table, weights = torch.full((SIZE, ), torch.nan), iter(given)
    low = torch.zeros(SIZE, dtype=torch.bool)
    for epoch, order in enumerate(orders.epochs):
        if 0 < epoch < 3:
            low = table < table[~table.isnan()].mean()
            assert low.any()
        for batch in order.split(BATCH):
            if len(batch) < BATCH:
                continue
            if epoch == 3:  # a whole one
                assert next(weights) is None
                continue
            want = torch.where(low[batch], 2., 1.).double()
            assert torch.equal(next(weights), want)
            table[batch[5]], table[batch[2]] = 4., 0.5
    assert next(weights, None) is None
    torch.testing.assert_close(
        run.train_dataloader.sampler.losses, table, equal_nan=True)


@needs_engine
def test_sam_weights_both_passes_of_infobatch(tmp_path):
    orders = Orders()
    run = train(tmp_path, wrapper=SAM, hooks=[orders])
    assert_is_reference(run, orders, rho=SAM['rho'])


@needs_engine
def test_ausam_records_the_losses_of_its_first_pass(tmp_path):
    orders = Orders()
    run = train(
        tmp_path, hooks=[orders], delta=1,
        wrapper=dict(type='AUSAM', rho=0.1, alpha=0.5, warmup_iters=0))
    known = run.train_dataloader.sampler.losses.isfinite()
    assert 0 < known.sum() <= SIZE
    assert sum(orders.kept) < EPOCHS * SIZE


@needs_engine
def test_a_two_pass_wrapper_has_no_weights_after_training(tmp_path):
    run = train(tmp_path, wrapper=SAM, length=2, delta=1)
    assert run.optim_wrapper.sample_weights is None


@pytest.mark.parametrize('stop', [3, 8, 11, 13, 20, -2])
def test_a_stopped_infobatch_training_ends_as_if_it_had_not_been(
        tmp_path, stop):
    options = dict(
        model=None, checkpoints_by_epoch=False, noise=0.2, length=6, delta=0.7,
        exact=True)
    whole = train(tmp_path / 'whole', **options)
    train(tmp_path / 'run', stop=stop % whole.iter, **options)
    resumed = train(tmp_path / 'run', resume=True, **options)
    assert_same(whole, resumed)


def test_a_resume_between_epochs_is_exact_in_mmengines_own_loop(tmp_path):
    whole = train(tmp_path / 'whole')
    train(tmp_path / 'run', stop=20)
    resumed = train(tmp_path / 'run', resume=True)
    assert_same(whole, resumed)


def assert_same(whole, resumed):
    assert resumed.iter == whole.iter == whole.max_iters == resumed.max_iters
    states = [[
        run.model.state_dict(),
        run.optim_wrapper.state_dict(),
        run.train_dataloader.sampler.state_dict()
    ] for run in (whole, resumed)]
    torch.testing.assert_close(*states, rtol=0, atol=0, equal_nan=True)


def test_a_checkpoint_holds_tensors_and_primitives_of_infobatch(tmp_path):
    train(tmp_path, length=2)
    checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    torch.save(checkpoint['ausam_mm_info_batch'], tmp_path / 'state.pth')
    state = torch.load(tmp_path / 'state.pth', weights_only=True)
    assert len(state['losses']) == SIZE
    assert state['loss_modules']['calls']['loss_module'][
        'in_total'] == 'mean'


@pytest.mark.parametrize('before,message', [
    (dict(hook=Stop(10**6), sampler='DefaultSampler'),
     'was written without InfoBatch: InfoBatch starts with no known loss'),
    (dict(size=SIZE + 5), 'losses of 65 samples, and the dataset has 60'),
])
def test_a_checkpoint_without_fitting_losses_starts_with_none(
        tmp_path, before, message):
    train(tmp_path, length=2, **before)
    orders = Orders()
    run = prepare(tmp_path, resume=True, length=4, delta=1, hooks=[orders])
    with messages() as found:
        run.train()
    assert any(message in text for text in found)
    assert orders.kept[0] == SIZE > orders.kept[1]


def test_load_from_brings_no_losses(tmp_path):
    train(tmp_path / 'a', length=2)
    orders = Orders()
    train(tmp_path / 'b', length=2, delta=1, hooks=[orders],
          load_from=str(tmp_path / 'a' / 'epoch_2.pth'))
    assert orders.kept[0] == SIZE > orders.kept[1]


def pair_of_processes(work_dir):
    rank = dist.get_rank()
    orders = Orders()
    model = MMDistributedDataParallel(build())
    run = prepare(work_dir / str(rank), hooks=[orders], model=model,
                  loader=dict(batch_size=BATCH))
    run.train()
    return dict(
        orders=orders.epochs,
        kept=orders.kept,
        losses=run.train_dataloader.sampler.losses,
        weights=model.module.state_dict(),
        iters=(run.iter, run.max_iters))


def test_two_infobatch_processes_agree_and_are_one_training(tmp_path):
    one, two = launch(pair_of_processes, 2, tmp_path)
    for name in ('kept', 'losses', 'weights', 'iters'):
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)
    assert one['iters'][0] == one['iters'][1]
    epochs = []
    for kept, a, b in zip(one['kept'], one['orders'], two['orders']):
        assert len(a) == len(b) == -(-kept // 2)
        assert len(set(a.tolist()) | set(b.tolist())) == kept
        epochs.append([
            torch.cat(pair) for pair in zip(a.split(BATCH), b.split(BATCH))])
    assert sum(one['kept']) < SIZE * EPOCHS
    assert any(kept % 2 for kept in one['kept'])  # some were padded
    model, last = reference(epochs)
    other = build()
    other.load_state_dict(one['weights'])
    assert difference(model, other) < 1e-12
    torch.testing.assert_close(
        one['losses'], torch.tensor([last[i] for i in range(SIZE)]),
        rtol=1e-6, atol=0)


@pytest.mark.parametrize('size', [8, 20, SIZE])
def test_infobatch_trains_with_drop_last(tmp_path, size):
    """Of 8 samples a pruned epoch may keep fewer than a batch."""
    orders = Orders()
    run = train(tmp_path, hooks=[orders], size=size, delta=1,
                loader=dict(drop_last=True))
    assert run.epoch == EPOCHS
    assert run.iter == sum(kept // BATCH for kept in orders.kept)


@pytest.mark.parametrize('factor', [1, 2])
def test_max_iters_is_corrected_for_pruned_epochs(tmp_path, factor):
    wrapper = dict(PLAIN, accumulative_counts=factor)
    run = train(tmp_path, wrapper=wrapper, interval=10**6,
                checkpoints_by_epoch=False)
    assert run.iter == run.max_iters < EPOCHS * 8
    assert (tmp_path / f'iter_{run.iter}.pth').exists()


@pytest.mark.parametrize('scheduler,warned', [
    (dict(by_epoch=False), True),
    (dict(by_epoch=True, convert_to_iter_based=True), True),
    (dict(by_epoch=False, begin=0, end=8), False),  # a warm-up
    (dict(by_epoch=True), False),
])
def test_infobatch_warns_of_a_schedule_in_iterations(
        tmp_path, scheduler, warned):
    run = prepare(tmp_path, length=2)
    run.param_schedulers = dict(
        type='LinearLR', start_factor=0.1, **scheduler)
    with messages() as found:
        run.train()
    warnings = [text for text in found if 'counts iterations' in text]
    assert len(warnings) == warned
    if warned:
        assert 'LinearLR' in warnings[0]
        assert 'set by_epoch=True without' in warnings[0]


def test_hooks_of_a_step_that_raised_are_removed(tmp_path):
    hook = InfoBatchHook()
    run = train(tmp_path, stop=10, hook=hook)
    hooks = run.model.loss_module._forward_hooks
    assert len(hooks) == 1
    hook.after_train(run)
    assert not hooks


def test_max_iters_of_mmengines_loop_can_be_corrected(tmp_path):
    """It has no public setter."""
    loop = prepare(tmp_path).build_train_loop(
        dict(by_epoch=True, max_epochs=2))
    set_max_iters(loop, 5)
    assert loop.max_iters == 5


class ByLength(BatchSampler):
    """A batch sampler with an order of its own."""


def one_too_few(batch):
    return dict(
        inputs=[sample['inputs'] for sample in batch[1:]],
        data_samples=[sample['data_samples'] for sample in batch[1:]])


class Inseparable(ToyModel):

    class ContrastiveLoss(torch.nn.Module):

        def forward(self, pred, target):
            return (pred - target).std()

    def __init__(self):
        super().__init__()
        self.loss_module = self.ContrastiveLoss()


@pytest.mark.parametrize('options,error,message', [
    (dict(sampler='DefaultSampler'), ValueError,
     'found a DefaultSampler .*: set train_dataloader.sampler='),
    (dict(by_epoch=False, length=4), TypeError,
     'IterBasedTrainLoop has none: set train_cfg='),
    (dict(loader=dict(batch_sampler=dict(type=ByLength, drop_last=False))),
     ValueError, 'A ByLength puts .*: leave train_dataloader.batch_sampler'),
    (dict(loader=dict(collate_fn=one_too_few)), ValueError,
     'Batch 0 of the epoch has 7 samples, but the sampler gave it 8, .*: use'),
    (dict(model=lambda: Inseparable().double()), ValueError,
     'does not separate'),
])
def test_infobatch_refuses_with_a_remedy(
        tmp_path, options, error, message):
    options = dict(options)
    if 'model' in options:
        options['model'] = options['model']()
    run = prepare(tmp_path, **options)
    with pytest.raises(error, match=message):
        run.train()
