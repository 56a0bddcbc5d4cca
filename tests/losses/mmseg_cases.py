"""Losses and heads of mmsegmentation, with made-up arguments and images."""

import torch
from mmengine.structures import PixelData
from torch import Tensor
from torch.nn import functional as F

from .cases import Case, left_out

N, C, SIDE = 6, 5, 8  # images, classes, pixels
WIDTH = 8  # channels of features


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(
        sum(shape)))


def with_ignored(labels: Tensor, ignored: int) -> Tensor:
    """Labels without a class in one row more for each image."""
    return torch.stack([
        torch.where(torch.arange(len(rows))[:, None] < i, ignored, rows)
        for i, rows in enumerate(labels)])


SCORES = 2 * rand(N, C, SIDE, SIDE)
CLASSES = (rand(N, SIDE, SIDE + 1)[..., :SIDE] * 99).long().abs() % C
# mmseg's heads have 255; the default of its cross entropy is -100.
LABELS = with_ignored(CLASSES, 255)
CE_LABELS = with_ignored(CLASSES, -100)
ONE_HOT = F.one_hot(CLASSES, C).permute(0, 3, 1, 2).float()
DEPTHS = (rand(N, 1, SIDE, SIDE).exp(), rand(N, 1, SIDE, SIDE + 1)[
    ..., :SIDE].exp())
WEIGHTS = torch.arange(1., C + 1).tolist()

# Library, class, options, positional arguments, named arguments
LOSSES = [('mmseg', *case, {}) for case in [
    ('CrossEntropyLoss', {}, (SCORES, CE_LABELS)),
    ('CrossEntropyLoss', dict(reduction='sum', class_weight=WEIGHTS),
     (SCORES, CE_LABELS)),
    ('CrossEntropyLoss', dict(use_sigmoid=True), (SCORES, LABELS % C)),
    ('CrossEntropyLoss', dict(use_sigmoid=True, loss_weight=0.2),
     (SCORES[..., 0, 0], ONE_HOT[..., 0, 0])),
    ('DiceLoss', {}, (SCORES, LABELS)),
    ('DiceLoss', dict(naive_dice=True, use_sigmoid=False, reduction='sum'),
     (SCORES, LABELS)),
    ('TverskyLoss', dict(class_weight=WEIGHTS), (SCORES, LABELS)),
    ('LovaszLoss', dict(per_image=True), (SCORES, LABELS)),
    ('LovaszLoss', dict(per_image=True, loss_type='binary'),
     (SCORES[:, 0], LABELS.where(LABELS == 255, LABELS % 2))),
    # mmseg 1.4.2 computes it on a CPU for such labels only.
    ('FocalLoss', {}, (SCORES, ONE_HOT)),
    ('FocalLoss', dict(reduction='sum', class_weight=WEIGHTS),
     (SCORES, ONE_HOT)),
    ('HuasdorffDisstanceLoss', {}, (SCORES, LABELS)),
    ('SiLogLoss', {}, DEPTHS),
]]

REFUSED = [
    ('mmseg', 'LovaszLoss', dict(reduction='none'), (SCORES, LABELS))]

COUNTED = [('mmseg', *case) for case in [
    ('CrossEntropyLoss', dict(avg_non_ignore=True), (SCORES, CE_LABELS)),
    ('CrossEntropyLoss', dict(class_weight=WEIGHTS), (SCORES, CE_LABELS)),
    ('CrossEntropyLoss', dict(use_sigmoid=True, avg_non_ignore=True),
     (SCORES, CE_LABELS)),
    ('CrossEntropyLoss', dict(use_sigmoid=True, avg_non_ignore=True),
     (SCORES[:, :1], CE_LABELS.clamp(max=1))),
]]

WHOLE_BATCH = [('mmseg', 'BoundaryLoss', {}),
               ('mmseg', 'OhemCrossEntropy', {})]


def levels(head, feats: Tensor, samples: list) -> dict:
    """The call of most heads: maps of several sizes, and no train_cfg."""
    return head.loss(maps(feats), samples, {})


def maps(feats: Tensor) -> tuple[Tensor, ...]:
    feats = 10 * feats  # so that the classes of pixels are told apart
    return (feats, F.avg_pool2d(feats, 2), F.avg_pool2d(feats, 4))


def after_another(head, feats: Tensor, samples: list) -> dict:
    """The call of a head of a cascade, with what the one before returned."""
    return head.loss(maps(feats), feats[:, :C], samples, {})


def relabeled(samples: list, change) -> list:
    """The samples with other masks."""
    samples = [sample.new() for sample in samples]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=change(sample.gt_sem_seg.data))
    return samples


def binary(head, feats: Tensor, samples: list) -> dict:
    """The call of a head for the first class and no other."""
    return levels(head, feats, relabeled(
        samples, lambda mask: mask.clamp(max=1).where(mask != 255, 255)))


def two_branches(head, feats: Tensor, samples: list) -> dict:
    """The call of DDRHead, whose cross entropy ignores no class 255."""
    return head.loss((feats[:, :WIDTH // 2], feats), relabeled(
        samples, lambda mask: mask % C), {})


def three_branches(head, feats: Tensor, samples: list) -> dict:
    """The call of PIDHead."""
    half = feats[:, :WIDTH // 2]
    return head.loss((half, feats, half), samples, {})


def head(kind: str, call=levels, note: str = '', **options) -> Case:
    """A head on the first map, or on several if ``in_index`` says so."""
    return Case({**dict(
        type=kind, in_channels=WIDTH, channels=WIDTH, num_classes=C,
        in_index=0, dropout_ratio=0., norm_cfg=dict(type='BN')), **options},
        call, note)


def loss(kind: str, **options) -> dict:
    return dict(type=kind, **options)


TWO = dict(in_channels=[WIDTH] * 2, in_index=[0, 1])
CE = loss('CrossEntropyLoss')
HEADS = [
    head('FCNHead', num_convs=1),
    head('FCNHead', binary, 'two classes in one map', num_convs=0,
         kernel_size=1, out_channels=1, num_classes=2, threshold=0.5,
         loss_decode=loss('CrossEntropyLoss', use_sigmoid=True)),
    head('FCNHead', note='CrossEntropyLoss and DiceLoss', num_convs=1,
         loss_decode=[CE, loss('DiceLoss')]),
    head('FCNHead', note='LovaszLoss of each image', num_convs=1,
         loss_decode=loss('LovaszLoss', per_image=True)),
    head('FCNHead', note='LovaszLoss', num_convs=1,
         loss_decode=loss('LovaszLoss', reduction='none')),
    head('FCNHead', note='TverskyLoss', num_convs=1,
         loss_decode=loss('TverskyLoss')),
    head('FCNHead', note='OHEMPixelSampler', num_convs=1,
         sampler=dict(type='OHEMPixelSampler', min_kept=4)),
    head('PSPHead', pool_scales=(1, 2)),
    head('ASPPHead', dilations=(1, 2)),
    head('DepthwiseSeparableASPPHead', dilations=(1, 2), c1_in_channels=WIDTH,
         c1_channels=4, in_index=1),
    head('DepthwiseSeparableFCNHead', num_convs=1),
    head('UPerHead', pool_scales=(1, 2), **TWO),
    head('SegformerHead', **TWO),
    head('FPNHead', feature_strides=[4, 8], **TWO),
    head('OCRHead', after_another, ocr_channels=WIDTH),
    head('ANNHead', project_channels=WIDTH, key_pool_scales=(1, 2),
         dropout_ratio=1e-9, **TWO),  # it fails without
    head('APCHead', pool_scales=(1, 2)),
    head('DAHead', pam_channels=WIDTH),
    head('DMHead', filter_sizes=(1, 3)),
    head('DNLHead'),
    # Without the moving average, so that it can be called again.
    head('EMAHead', ema_channels=WIDTH, num_bases=4, num_stages=2,
         momentum=0.),
    head('EncHead', num_codes=4, in_channels=[WIDTH], in_index=[0]),
    head('GCHead'),
    head('ISAHead', isa_channels=WIDTH, down_factor=(2, 2)),
    head('NLHead'),
    head('LightHamHead', ham_channels=WIDTH, ham_kwargs=dict(
        MD_R=4, rand_init=False), **TWO),
    head('SETRUPHead', norm_layer=dict(type='LN'), up_scale=2,
         act_cfg=dict(type='ReLU')),
    head('SETRMLAHead', mla_channels=4, up_scale=2, in_channels=[WIDTH] * 2,
         in_index=[0, 0]),
    head('SegmenterMaskTransformerHead', num_layers=1, num_heads=2,
         embed_dims=WIDTH, drop_path_rate=0., norm_cfg=dict(type='LN')),
    head('STDCHead', num_classes=2, num_convs=1, loss_decode=[
        loss('CrossEntropyLoss', use_sigmoid=True), loss('DiceLoss')]),
    head('DDRHead', two_branches, loss_decode=[CE, CE]),
    head('PIDHead', three_branches, loss_decode=[
        CE, loss('OhemCrossEntropy'), loss('BoundaryLoss'), CE]),
    *left_out('it needs mmcv with compiled ops', 'CCHead', 'PSAHead',
              'PointHead', 'SideAdapterCLIPHead'),
    *left_out('it needs mmdet', 'MaskFormerHead', 'Mask2FormerHead'),
    *left_out('it is a part of another', 'KernelUpdateHead'),
    *left_out('it holds others, whose losses it takes',
              'IterativeDecodeHead'),
    *left_out('it estimates depths from the maps of a diffusion model',
              'VPDDepthHead'),
    *left_out('it needs the maps and tokens of a ViT', 'DPTHead'),
    *left_out('it pools maps of 49x49 pixels', 'LRASPPHead'),
]


def sample(index: int, generator: torch.Generator):
    """A data sample with a mask, of which some pixels have no class."""
    from mmseg.structures import SegDataSample
    mask = torch.randint(0, C, (1, 2 * SIDE, 2 * SIDE), generator=generator)
    mask[:, :index + 1] = 255
    return SegDataSample(
        metainfo=dict(img_path=f'{index}.png'),
        gt_sem_seg=PixelData(data=mask),
        gt_edge_map=PixelData(data=(mask == 1).long()))
