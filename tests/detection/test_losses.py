"""The losses of a detector's images, against the model run on one at a time.

Normalization layers are in eval mode, in which images do not see each other.
"""

import sys

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import DefaultSampler
from mmengine.model import MMDistributedDataParallel
from torch.utils.data import TensorDataset

from ausam_mm.losses import register_detection_head
from ausam_mm.sampling import AUSAMBatchSampler, Selection

from ..losses.toy import INVERSE, gradient, record
from ..processes import launch
from ..toy import wrap
from .detectors import (
    WITH_RULES,
    alone,
    batch,
    build,
    losses_of,
    part,
)

# Sums of single precision in another order.
CLOSE = dict(rtol=1e-6, atol=1e-6)
# Of gradients, since rounding moves values over the kink of a ReLU.
KINKS = 1e-3
# One with numbers of anchors and of centerness, and one with a decoder, in
# `make test`.
kinds = pytest.mark.parametrize('kind', [
    kind if kind in ('FCOS', 'DETR') else
    pytest.param(kind, marks=pytest.mark.slow) for kind in WITH_RULES])


def ausam(model, **options):
    """AUSAM that selects from its second step on, and does not step."""
    return wrap(model, lr=0., weight_decay=0., momentum=0., **{
        **dict(type='AUSAM', rho=1e-9, warmup_iters=1, ramp_iters=0, seed=0),
        **options})


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@kinds
def test_losses_of_images_are_those_of_the_model_on_each_alone(kind):
    """They add up to the loss of the batch; that of a part is its mean."""
    model = build(kind)
    wrapper = ausam(model)
    steps, _ = record(wrapper)
    for seed in range(2):
        data = batch(seed)
        expected = alone(kind, model, data).detach()
        model.train_step(data, wrapper)
        first, seen = steps[-1].first, steps[-1].selection.ascent
        torch.testing.assert_close(first.losses, expected[seen], **CLOSE)
        torch.testing.assert_close(
            first.total, expected[seen].mean(), **CLOSE)
    assert len(seen) == 2 and wrapper.per_sample_losses(model).verified
    torch.testing.assert_close(
        expected.mean(), sum(losses_of(model, data).values()).detach(),
        **CLOSE)


@kinds
def test_a_sub_batch_is_divided_by_what_divides_the_full_batch(kind):
    """Its gradient is that of the mean of b * what each image adds."""
    model = build(kind)
    wrapper = ausam(model)
    steps, grads = record(wrapper)
    data = batch(9)  # whose images differ in their positives
    for each in (batch(0), data):
        model.train_step(each, wrapper)
    losses = alone(kind, model, data)
    seen = steps[-1].selection.ascent
    expected = gradient(losses[seen].mean(), model)
    assert relative(grads[-1], expected) < KINKS
    own = gradient(sum(losses_of(model, part(data, seen)).values()), model)
    assert relative(own, expected) > 10 * KINKS  # divided by its own positives


@kinds
def test_halves_of_a_batch_add_up_to_its_gradient(kind):
    model = build(kind)
    wrapper = wrap(model, lr=0., weight_decay=0., momentum=0.,
                   type='SplitSAM', rho=1e-9)
    _, grads = record(wrapper)
    model.train_step(batch(3), wrapper)
    expected = gradient(sum(losses_of(model, batch(3)).values()), model)
    assert relative(grads[-1], expected) < KINKS


def test_inverse_probabilities_weight_the_images():
    model = build('FCOS')
    wrapper = ausam(model, **INVERSE)
    steps, grads = record(wrapper)
    for seed in range(2):
        model.train_step(batch(seed), wrapper)
    selection = steps[-1].selection
    weights = selection.ascent_weights
    expected = (alone('FCOS', model, batch(1))[selection.ascent]
                * weights).sum()
    assert relative(grads[-1], gradient(expected, model)) < KINKS


@kinds
def test_micro_batches_accumulate_each_divided_by_its_own_numbers(kind):
    model = build(kind)
    wrapper = ausam(model, accumulative_counts=2, warmup_iters=2)
    wrapper.initialize_count_status(model, 0, 8)
    steps, grads = record(wrapper)
    for seed in range(4):
        model.train_step(batch(seed), wrapper)
    expected = sum(alone(kind, model, batch(seed))[step.selection.ascent]
                   .mean() / 2 for seed, step in zip((2, 3), steps[2:]))
    assert relative(grads[-1], gradient(expected, model)) < KINKS


def on_processes():
    """What a process records of steps on all and on half, by detector."""
    rank, found = dist.get_rank(), {}
    for kind in WITH_RULES:
        model = build(kind)
        wrapper = ausam(model)
        steps, grads = record(wrapper)
        outer = MMDistributedDataParallel(model)
        for seed in range(2):
            outer.train_step(batch(2 * seed + rank), wrapper)
        found[kind] = (steps[-1].first.losses, steps[-1].selection.ascent,
                       *grads)
    return found


@pytest.mark.slow
def test_processes_divide_by_the_mean_of_their_numbers():
    """As the heads do on all images, and so on some of them."""
    results = launch(on_processes, 2)
    for kind in WITH_RULES:
        model = build(kind)
        every, some = [], []
        for rank, result in enumerate(results):
            losses, seen, *_ = result[kind]
            for seed, parts in ((0, every), (1, some)):
                parts.append(alone(kind, model, batch(2 * seed + rank),
                                   others=[batch(2 * seed + 1 - rank)]))
            torch.testing.assert_close(
                losses, some[-1][seen].detach(), **CLOSE)
            some[-1] = some[-1][seen]
        for parts, number in ((every, 2), (some, 3)):
            expected = gradient(torch.stack([
                each.mean() for each in parts]).mean(), model)
            for result in results:
                assert relative(result[kind][number], expected) < KINKS


@kinds
def test_images_of_other_sizes_and_without_boxes_are_no_exception(kind):
    """Padding differs between parts of a batch; no image has a box."""
    shapes = [(64, 64), (40, 56), (64, 33), (49, 64)]
    model = build(kind)
    wrapper = ausam(model)
    steps, _ = record(wrapper)
    model.train_step(batch(0, boxes=(0, )), wrapper)
    assert steps[-1].first.losses.isfinite().all()
    model.train_step(batch(5, shapes=shapes), wrapper)
    assert steps[-1].first.losses.isfinite().all()
    model.train_step(batch(5, boxes=(0, )), wrapper)
    seen = steps[-1].selection.ascent
    expected = alone(kind, model, batch(5, boxes=(0, ))).detach()
    torch.testing.assert_close(
        steps[-1].first.losses, expected[seen], **CLOSE)


def test_scores_of_other_methods_are_the_losses_too():
    model = build('RetinaNet')
    for options in (dict(type='KSAM'), dict(type='ESAM'),
                    dict(type='AUSAM', scores='gradient_norm', warmup_iters=1,
                         ramp_iters=0)):
        wrapper = wrap(model, lr=0.01, **options)
        for seed in range(3):
            model.train_step(batch(seed), wrapper)
        assert wrapper.samples_backpropagated


def test_labels_that_are_not_loaded_are_refused():
    model = build('RetinaNet')
    wrapper = ausam(model)
    model.train_step(batch(0), wrapper)
    data = batch(1)

    class Loaded(Selection):
        loaded = 3

    with pytest.raises(ValueError, match='`bbox_head`.*are not in what the '
                       'data loader returned'):
        wrapper.select = lambda data: Loaded(4, *[torch.arange(3)] * 2)
        model.train_step(part(data, range(3)), wrapper)


def test_a_batch_sampler_is_refused_before_the_first_step():
    model = build('FCOS')
    wrapper = ausam(model, warmup_iters=10)
    images = DefaultSampler(TensorDataset(torch.arange(8)))
    wrapper.connect(AUSAMBatchSampler(images, 4))
    weights = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match='`bbox_head` divides by numbers of '
                       'boxes.*leave it out of train_dataloader'):
        model.train_step(batch(0), wrapper)
    assert all(map(torch.equal, weights, model.parameters()))


def test_boxes_that_change_on_the_way_are_refused():
    """As by augmentations of batches, which the data loader does not see."""
    model = build('RetinaNet')

    class Enlarging(type(model.data_preprocessor)):

        def forward(self, data, training=False):
            data = super().forward(data, training)
            for sample in data['data_samples']:
                sample.gt_instances.bboxes = sample.gt_instances.bboxes * 1.6
            return data

    model.data_preprocessor.__class__ = Enlarging
    with pytest.raises(ValueError, match='`bbox_head`.*the boxes in the '
                       'batch of the data loader'):
        model.train_step(batch(0), ausam(model))


def test_a_head_that_computes_its_losses_itself_is_refused():
    """Unless it is registered; its parent's rule is not its own."""
    model = build('RetinaNet')

    class Mine(type(model.bbox_head)):

        def loss_by_feat(self, *args, **kwargs):
            losses = super().loss_by_feat(*args, **kwargs)
            return dict(losses, loss_cls=[
                each**2 for each in losses['loss_cls']])

    model.bbox_head.__class__ = Mine
    with pytest.raises(ValueError, match='its `loss_by_feat` is not that of '
                       'RetinaHead'):
        model.train_step(batch(0), ausam(model))
    register_detection_head(Mine, numbers_from='get_targets')
    with pytest.raises(ValueError, match='neither the mean nor the sum'):
        model.train_step(batch(0), ausam(model))


def test_other_heads_are_refused_when_their_training_starts():
    model = build('YOLOX')
    for options in (dict(type='AUSAM'), dict(type='SplitSAM')):
        with pytest.raises(ValueError, match='`bbox_head` .YOLOXHead. does '
                           'not separate.*use SAM'):
            model.train_step(batch(0), wrap(model, **options))


@kinds
def test_nothing_is_left_on_a_head_after_a_step(kind):
    model = build(kind)
    before = set(vars(model.bbox_head))
    scope = vars(sys.modules[type(model.bbox_head).__mro__[0].__module__])
    reduce_mean = scope.get('reduce_mean')
    model.train_step(batch(0), ausam(model))
    assert set(vars(model.bbox_head)) == before
    assert scope.get('reduce_mean') is reduce_mean
