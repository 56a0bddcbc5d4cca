"""mmsegmentation's models under AUSAM.

The reference is the model's total loss on one image at a time, with BatchNorm
in eval mode.
"""

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from torch import nn
from torch.nn import functional as F

import ausam_mm
from ausam_mm.sampling import sample_keys

from ..processes import launch
from .loss_cases import build_loss, watched
from .mmseg_cases import CE_LABELS, SCORES, N
from .toy import INVERSE, ausam, gradient, record

pytest.importorskip('mmseg.models')

C, NUM, SIDE = 4, 6, 32
NORM = dict(type='SyncBN')
RESNET = dict(
    type='ResNetV1c', depth=18, stem_channels=4, base_channels=4,
    norm_cfg=NORM, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4),
    contract_dilation=True)  # 4, 8, 16 and 32 channels
MIT = dict(
    type='MixVisionTransformer', embed_dims=8, num_layers=[1] * 4,
    num_heads=[1, 1, 1, 1], patch_sizes=[7, 3, 3, 3],
    sr_ratios=[8, 4, 2, 1], out_indices=(0, 1, 2, 3), mlp_ratio=2,
    drop_path_rate=0.1)
CE = dict(type='CrossEntropyLoss')
VALID = dict(CE, avg_non_ignore=True)
WEIGHTED = dict(CE, class_weight=[1., 2., 3., 4.])


def head(kind, loss=CE, **options):
    return {**dict(type=kind, in_channels=32, in_index=3, channels=8,
                   num_classes=C, norm_cfg=NORM, loss_decode=loss), **options}


def fcn(loss=CE, **options):
    return head('FCNHead', loss, **{**dict(num_convs=1), **options})


def auxiliary(loss=CE):
    """The FCN that mmseg's configs put on the third stage."""
    return fcn({**loss, 'loss_weight': 0.4}, in_channels=16, in_index=2)


def resnet(decode_head, loss=CE, **options):
    return dict(type='EncoderDecoder', backbone=RESNET,
                decode_head=decode_head, auxiliary_head=auxiliary(loss),
                **options)


ALL = dict(in_channels=[4, 8, 16, 32], in_index=[0, 1, 2, 3])
FCN = resnet(fcn())
COUNTED = resnet(fcn(VALID), VALID)
MODELS_ = {
    'FCN': FCN,
    'PSPNet': resnet(head('PSPHead', pool_scales=(1, 2))),
    'DeepLabV3': resnet(head('ASPPHead', dilations=(1, 2))),
    'DeepLabV3+': resnet(head(
        'DepthwiseSeparableASPPHead', dilations=(1, 2), c1_in_channels=4,
        c1_channels=4)),
    'UPerNet': resnet(head('UPerHead', pool_scales=(1, 2), **ALL)),
    'SegFormer': dict(
        type='EncoderDecoder', backbone=MIT,
        decode_head=head('SegformerHead', in_channels=[8] * 4,
                         in_index=[0, 1, 2, 3])),
    'OCRNet': dict(
        type='CascadeEncoderDecoder', num_stages=2, backbone=RESNET,
        decode_head=[fcn({**CE, 'loss_weight': 0.4}),
                     head('OCRHead', ocr_channels=8)]),
    'several losses': resnet(fcn([
        CE, dict(type='DiceLoss', loss_weight=3.),
        dict(type='TverskyLoss', loss_weight=0.5)])),
    'valid pixels': COUNTED,
    'weighted pixels': resnet(fcn(WEIGHTED), WEIGHTED),
}


def make(config, size=(SIDE, SIDE)):
    """A segmentor in double precision, BatchNorm in eval mode."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(dict(config, train_cfg=dict(), data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[128.] * 3, std=[64.] * 3,
        size=size, pad_val=0, seg_pad_val=255)))
    model = revert_sync_batchnorm(model).double().train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            # Padded pixels are else at ReLU's kink.
            nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, nn.Conv2d) and module.out_channels == C:
            nn.init.normal_(module.weight, std=0.3)  # so that losses differ
    return model


def images(seed=0, first=0, num=NUM, side=SIDE):
    """Images of several sizes, of whose masks a part has no class."""
    from mmseg.structures import SegDataSample
    generator = torch.Generator().manual_seed(seed)
    data = dict(inputs=[], data_samples=[])
    for i in range(num):
        shape = (side - 4 * (i % 3), side - 2 * (i % 2))
        image = torch.randint(0, 255, (3, *shape), generator=generator)
        mask = torch.randint(0, C, (1, *shape), generator=generator)
        mask[:, :2 * i + 1] = 255
        data['inputs'].append(image.to(torch.uint8))
        data['data_samples'].append(SegDataSample(
            metainfo=dict(img_path=f'{first + i}.png'),
            gt_sem_seg=PixelData(data=mask)))
    return data


def part(data, positions):
    return {key: [values[i] for i in positions]
            for key, values in data.items()}


def weights_of(mask, loss):
    """The pixels of a mask that count, or their weights."""
    valid = mask != 255
    weights = torch.tensor(loss.get('class_weight') or [1.] * C)
    return float((weights[mask.where(valid, 0)] * valid).sum())


def own_losses(model, data, config):
    """The total loss on each image alone, shape (b, ).

    Where it is divided by the pixels that count, P, that of image i is
    multiplied by P_i * b / P.
    """
    loss = config['decode_head']
    loss = loss['loss_decode'] if isinstance(loss, dict) else CE
    losses = []
    for i in range(len(data['inputs'])):
        alone = model.data_preprocessor(part(data, [i]), True)
        losses.append(model.parse_losses(model(**alone, mode='loss'))[0])
    losses = torch.stack(losses)
    if loss in (VALID, WEIGHTED):
        counts = torch.tensor([weights_of(sample.gt_sem_seg.data, loss)
                               for sample in data['data_samples']]).double()
        losses = losses * counts / counts.mean()
    return losses


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def same_direction(found, expected):
    """Equal gradients, but for what the tiny perturbation makes of them."""
    assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[pytest.mark.slow] * (
        name in ('PSPNet', 'DeepLabV3', 'DeepLabV3+', 'UPerNet', 'OCRNet')))
    for name in MODELS_])
def test_losses_are_those_of_one_image_at_a_time_also_on_a_part(name):
    config = MODELS_[name]
    model = make(config)
    for module in model.modules():  # else each view has other masks
        if 'Drop' in type(module).__name__:
            module.eval()
    wrapper = ausam(model, alpha=0.5)
    steps, grads = record(wrapper)
    for seed in (1, 2):
        data = images(seed, first=100 * seed)
        model.train_step(data, wrapper)
    seen = steps[-1].selection.ascent
    assert len(seen) == NUM // 2
    own = own_losses(model, data, config)
    close(steps[-1].first.losses, own.detach()[seen])
    same_direction(grads[-1], gradient(own[seen].mean(), model))
    # acc_seg is none of them.
    assert all('loss_decode' in key for key in wrapper.reductions)


@pytest.mark.parametrize('config', [FCN, COUNTED], ids=['mean', 'count'])
def test_accumulated_parts_weigh_as_their_micro_batches(config):
    model = make(config)
    no_dropout(model)
    wrapper = ausam(model, alpha=0.5, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    steps, grads = record(wrapper)
    batches = [images(seed, first=100 * seed, num=NUM - seed)
               for seed in range(4)]
    for data in batches:
        model.train_step(data, wrapper)
    assert len(grads) == 2
    expected = 0
    for step, data in zip(steps[2:], batches[2:]):
        own = own_losses(model, data, config)
        expected = expected + gradient(
            own[step.selection.descent].mean(), model) / 2
    same_direction(grads[-1], expected)


def test_inverse_probabilities_estimate_the_loss_of_all_valid_pixels():
    """The mean over many selections is the gradient of the batch."""
    model = make(COUNTED)
    no_dropout(model)
    data = images(3)
    whole = model.data_preprocessor(data, True)
    total = model.parse_losses(model(**whole, mode='loss'))[0]
    close(own_losses(model, data, COUNTED).mean(), total)
    wrapper = ausam(model, alpha=0.5, **INVERSE)
    steps, grads = record(wrapper)
    for _ in range(2):
        model.train_step(data, wrapper)
    seen, weights = steps[-1].selection.descent, steps[-1].second.weights
    own = own_losses(model, data, COUNTED)[seen]
    same_direction(grads[-1], gradient((own * weights).sum(), model))


def no_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.eval()


def in_a_process():
    return [of_a_process(config) for config in (FCN, COUNTED)]


def of_a_process(config):
    """A step on a part of this process's images, and its reference."""
    rank = dist.get_rank()
    model = make(config)
    no_dropout(model)
    wrapper = ausam(model, alpha=0.5)
    outer = MMDistributedDataParallel(model)
    steps, grads = record(wrapper)
    for seed in (1, 2):
        data = images(10 * rank + seed, first=100 * (10 * rank + seed))
        outer.train_step(data, wrapper)
    own = own_losses(model, data, config)[steps[-1].selection.descent]
    return grads[-1], gradient(own.mean(), model), len(own)


@pytest.mark.slow
def test_two_processes_average_the_gradients_of_their_parts():
    for one, two in zip(*launch(in_a_process, 2)):
        close(one[0], two[0])
        same_direction(one[0], (one[1] + two[1]) / 2)
        assert one[2] == two[2] == NUM // 2


def test_images_are_padded_to_the_size_of_the_part():
    """Valid pixels are counted in the masks as they were loaded."""
    model = make(COUNTED, size=None)
    model.data_preprocessor.size_divisor = 8
    no_dropout(model)
    wrapper = ausam(model, alpha=0.5)
    steps, _ = record(wrapper)
    for seed in (1, 2):
        data = images(seed, first=100 * seed)
        model.train_step(data, wrapper)
    counts = torch.tensor([weights_of(sample.gt_sem_seg.data, VALID)
                           for sample in data['data_samples']])
    term = steps[-1].first.terms[0]
    close(term.mean_count.double(), counts.mean().double())


def test_an_image_is_known_by_its_path():
    one, two = images(1, first=7), images(2, first=7)
    keys = sample_keys(one)
    assert len(keys.unique()) == NUM
    assert torch.equal(keys, sample_keys(two))
    assert not set(keys.tolist()) & set(
        sample_keys(images(1, first=20)).tolist())


def test_pixels_that_count_for_nothing_have_loss_0():
    module = build_loss('mmseg', 'CrossEntropyLoss', dict(avg_non_ignore=True))
    labels = CE_LABELS.clone()
    labels[2] = -100
    _, found, _ = watched(module, (SCORES, labels), {}, batch=[labels])
    numerators = F.cross_entropy(
        SCORES, labels, reduction='none').sum((1, 2))
    close(found.losses, numerators * N / (labels != -100).sum())
    assert found.losses[2] == 0


@pytest.mark.parametrize('more,reason', [
    ((torch.ones(CE_LABELS.shape), ), 'OHEMPixelSampler'),
    ((None, 7), 'avg_factor is 7')])
def test_weights_and_divisors_of_a_caller_are_refused(more, reason):
    module = build_loss('mmseg', 'CrossEntropyLoss', {})
    with pytest.raises(ValueError, match=reason) as error:
        watched(module, (SCORES, CE_LABELS, *more), {})
    assert 'CrossEntropyLoss' in str(error.value)


@pytest.mark.parametrize('decode_head,name,reason', [
    (fcn(sampler=dict(type='OHEMPixelSampler', min_kept=20)),
     'decode_head.loss_decode', 'OHEMPixelSampler'),
    (fcn(dict(type='LovaszLoss', reduction='none')),
     'decode_head.loss_decode', 'per_image=False')])
def test_what_ranks_the_pixels_of_the_batch_is_refused_in_the_first_step(
        decode_head, name, reason):
    model = make(resnet(decode_head)).float()
    wrapper = ausam(model)
    with pytest.raises(ValueError, match=reason) as error:
        model.train_step(images(1), wrapper)
    assert name in str(error.value)
    # SAM needs no losses of images.
    wrapper = ausam_mm.SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    model.train_step(images(1), wrapper)
    assert wrapper.num_steps == 1
