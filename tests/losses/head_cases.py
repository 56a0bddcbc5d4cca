"""Small instances of mmpretrain's and mmpose's heads, with made-up data."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from . import mmseg_cases
from .cases import Case, left_out

C, K = 5, 4  # classes, keypoints
SIDE = 8  # of feature maps and heatmaps, in pixels
INPUT = (16, 16)  # width and height of images
WIDTH = 8  # channels of features

CE = dict(type='CrossEntropyLoss')
SIGMOID = dict(type='CrossEntropyLoss', use_sigmoid=True)
PIXELS = dict(type='PixelReconstructionLoss', criterion='L2')
PREDICTOR = dict(type='NonLinearNeck', in_channels=WIDTH, hid_channels=8,
                 out_channels=WIDTH, with_bias=True, with_last_bn=False,
                 with_avg_pool=False)
SIMCC = dict(type='SimCCLabel', input_size=INPUT, sigma=2.)
HEATMAP = dict(type='MSRAHeatmap', input_size=INPUT, heatmap_size=(SIDE, ) * 2,
               sigma=1.)
GAU = dict(hidden_dims=8, s=4, expansion_factor=2, dropout_rate=0.,
           drop_path=0., act_fn='SiLU', use_rel_bias=False, pos_enc=False)


def vectors(head, feats: Tensor, samples: list) -> dict:
    """The same with features that are pooled."""
    return head.loss((feats.mean((2, 3)), ), samples)


def between(*names: str, **made: Callable) -> Callable:
    """The call of a head for self-supervision.

    Args:
        *names (str): What of the prepared tensors the head is given.
        **made: How another is prepared from feats and samples.
    """

    def call(head, feats, samples):
        pooled = feats.mean((2, 3))
        tokens = feats.flatten(2).transpose(1, 2)  # (b, 64, 8)
        fixed = torch.stack([s.fixed for s in samples])  # like tokens
        mask = torch.stack([s.mask for s in samples])  # (b, 64), 0 or 1
        have = dict(
            pooled=pooled, tokens=tokens, fixed=fixed, mask=mask, feats=feats,
            with_cls=torch.cat([tokens[:, :1], tokens], 1),
            pooled_fixed=fixed.mean(1), pos=pooled[:, :1], neg=pooled[:, 1:],
            images=fixed.transpose(1, 2).reshape_as(feats),
            **{name: make(tokens, fixed) for name, make in made.items()})
        loss = head.loss(*(have[name] for name in names))
        losses = loss if isinstance(loss, tuple) else (loss, )
        return {f'loss_{i}': part for i, part in enumerate(losses)}

    return call


def linear(kind: str, **options) -> dict[str, Any]:
    """The config of a classification head."""
    return dict(type=kind, num_classes=C, in_channels=WIDTH, **options)


def joints(kind: str, **options) -> dict[str, Any]:
    """The config of a pose head."""
    return dict(type=kind, in_channels=WIDTH, **options)


def scores(head, feats: Tensor, samples: list) -> dict:
    """The call of a head without parameters, for multi-label samples."""
    return head.loss((feats.mean((2, 3))[:, :C], ), [s.multi for s in samples])


def multi(head, feats: Tensor, samples: list) -> dict:
    """The call of a linear head for multi-label samples."""
    return vectors(head, feats, [s.multi for s in samples])


MMPRETRAIN = [
    Case(dict(type='ClsHead'), vectors),
    Case(linear('LinearClsHead'), vectors),
    Case(linear('LinearClsHead', loss=dict(
        type='LabelSmoothLoss', label_smooth_val=0.1)), vectors,
        'label smoothing'),
    Case(linear('LinearClsHead', loss=dict(
        type='SeesawLoss', num_classes=C)), vectors, 'SeesawLoss'),
    Case(linear('StackedLinearClsHead', mid_channels=[8]), vectors),
    Case(linear('VisionTransformerClsHead', hidden_dim=8), vectors),
    Case(dict(type='ConformerHead', num_classes=C,
              in_channels=[WIDTH, WIDTH]),
         lambda head, feats, samples: head.loss(
             ([feats.mean((2, 3)), feats.amax((2, 3))], ), samples)),
    Case(linear('EfficientFormerClsHead', distillation=False), vectors),
    Case(linear('LeViTClsHead', distillation=False), vectors),
    Case(linear('DeiTClsHead'), lambda head, feats, samples: head.loss(
        ([feats.mean((2, 3)), feats.amax((2, 3))], ), samples)),
    Case(linear('VigClsHead', hidden_dim=8), vectors),
    Case(linear('ArcFaceClsHead'), vectors),
    Case(dict(type='MultiLabelClsHead'), scores),
    Case(linear('MultiLabelLinearClsHead'), multi),
    Case(linear('MultiLabelLinearClsHead', loss=dict(type='AsymmetricLoss')),
         multi, 'AsymmetricLoss'),
    Case(linear('MultiLabelLinearClsHead', loss=dict(type='FocalLoss')),
         multi, 'FocalLoss'),
    Case(linear('CSRAClsHead', num_heads=1, lam=0.1, loss=SIGMOID),
         lambda head, feats, samples: head.loss(
             (feats, ), [s.multi for s in samples])),
    Case(dict(type='MultiTaskHead', task_heads=dict(
        a=linear('LinearClsHead'), b=linear('LinearClsHead'))),
        lambda head, feats, samples: head.loss(
            (feats.mean((2, 3)), ), [s.tasks for s in samples])),
    Case(linear('LinearRegressionHead'), multi),
    Case(dict(type='RegressionHead'), scores),
    # Self-supervision
    Case(dict(type='ContrastiveHead', loss=CE), between('pos', 'neg')),
    Case(dict(type='LatentPredictHead', predictor=PREDICTOR,
              loss=dict(type='CosineSimilarityLoss')),
         between('pooled', 'pooled_fixed')),
    Case(dict(type='LatentCrossCorrelationHead', in_channels=WIDTH,
              loss=dict(type='CrossCorrelationLoss')),
         between('pooled', 'pooled_fixed')),
    Case(dict(type='MoCoV3Head', predictor=PREDICTOR, loss=CE),
         between('pooled', 'pooled_fixed')),
    Case(dict(type='SwAVHead', loss=dict(
        type='SwAVLoss', feat_dim=WIDTH, num_crops=[2],
        num_prototypes=4)), between('pooled')),
    Case(dict(type='MAEPretrainHead', loss=PIXELS, patch_size=1,
              in_channels=WIDTH), between('tokens', 'images', 'mask')),
    Case(dict(type='MixMIMPretrainHead', loss=PIXELS, patch_size=1),
         between('two', 'rgb', 'column',
                 two=lambda tokens, fixed: torch.cat(
                     [tokens, 0.5 * tokens.flip(0)])[:, :, :3],
                 rgb=lambda tokens, fixed: fixed[:, :, :3].transpose(
                     1, 2).reshape(-1, 3, SIDE, SIDE),
                 column=lambda tokens, fixed: (
                     fixed[:, :, :1] > 0.5).float())),
    Case(dict(type='SparKPretrainHead', loss=PIXELS, patch_size=1,
              norm_pix=False),
         lambda head, feats, samples: dict(loss=head(
             feats[:, :3], feats[:, 3:6].detach(),
             torch.stack([s.mask for s in samples])))),
    Case(dict(type='CAEHead', loss=dict(type='CAELoss', lambd=2.)), between(
        'logits', 'images', 'pooled', 'pooled_fixed', 'chosen',
        logits=lambda tokens, fixed: tokens.flatten(0, 1),
        chosen=lambda tokens, fixed: torch.ones(tokens.shape[:2]).bool())),
    Case(dict(type='MIMHead', loss=PIXELS), between('tokens', 'fixed')),
    Case(dict(type='MIMHead', loss=PIXELS), between(
        'tokens', 'fixed', 'mask'), 'with a mask'),
    Case(dict(type='SimMIMHead', patch_size=1, loss=dict(
        type='PixelReconstructionLoss', criterion='L1', channel=WIDTH)),
        between('feats', 'images', 'square', square=lambda tokens, fixed: (
            fixed[:, :, 0] > 0.5).float().view(-1, SIDE, SIDE))),
    Case(dict(type='BEiTV1Head', embed_dims=WIDTH, num_embed=C, loss=CE),
         between('with_cls', 'codes', 'mask', codes=lambda tokens, fixed:
                 fixed.transpose(1, 2)[:, :C].reshape(-1, C, SIDE, SIDE))),
    Case(dict(type='BEiTV2Head', embed_dims=WIDTH, num_embed=C, loss=CE),
         between('tokens', 'tokens', 'codes', 'mask', codes=lambda tokens,
                 fixed: fixed[:, :, :C].argmax(2))),
    Case(dict(type='iTPNClipHead', embed_dims=WIDTH, num_embed=WIDTH,
              loss=dict(type='CosineSimilarityLoss')),
         between('tokens', 'fixed', 'mask')),
    # Images and text
    Case(dict(type='ITCHead', embed_dim=WIDTH, queue_size=12),
         between('pooled')),
    Case(dict(type='ITMHead', hidden_size=WIDTH),
         lambda head, feats, samples: head.loss(
             (feats.flatten(2).transpose(1, 2), ), samples)),
    *left_out('its decoder is of the package transformers, which is in no '
              'requirements file',
              'GroundingHead', 'SeqGenerationHead', 'VQAGenerationHead'),
]

POSE_CE = dict(type='KeypointMSELoss', use_target_weight=True)
DECONV = dict(deconv_out_channels=None)
MMPOSE = [
    Case(joints('HeatmapHead', out_channels=K, loss=POSE_CE, **DECONV)),
    Case(joints('HeatmapHead', out_channels=K, loss=dict(
        type='KeypointOHKMMSELoss', use_target_weight=True, topk=2),
        **DECONV), note='KeypointOHKMMSELoss'),
    Case(joints('HeatmapHead', out_channels=K, loss=dict(
        type='AdaptiveWingLoss', use_target_weight=True), **DECONV),
        note='AdaptiveWingLoss'),
    Case(joints('ViPNASHead', out_channels=K, loss=POSE_CE,
                deconv_out_channels=None)),
    Case(joints('CPMHead', num_stages=2, out_channels=K, loss=POSE_CE),
         lambda head, feats, samples: head.loss(
             [feats, feats * 2], samples)),
    Case(dict(type='MSPNHead', num_stages=1, num_units=1, level_indices=[0],
              out_shape=(SIDE, SIDE), unit_channels=WIDTH, out_channels=K,
              loss=[POSE_CE]),
         lambda head, feats, samples: head.loss(
             [[feats]], [s.levels for s in samples])),
    Case(joints('SimCCHead', out_channels=K, input_size=INPUT,
                in_featuremap_size=(SIDE, SIDE), deconv_out_channels=None,
                decoder=SIMCC)),
    Case(joints('RTMCCHead', out_channels=K, input_size=INPUT,
                in_featuremap_size=(SIDE, SIDE), gau_cfg=GAU,
                decoder=SIMCC)),
    Case(joints('RTMWHead', out_channels=K, input_size=INPUT,
                in_featuremap_size=(SIDE, SIDE), gau_cfg=GAU,
                decoder=SIMCC),
         lambda head, feats, samples: head.loss(
             (feats[:, :WIDTH // 2].repeat(1, 1, 2, 2), feats), samples)),
    Case(joints('RegressionHead', num_joints=K, loss=dict(
        type='SmoothL1Loss', use_target_weight=True)),
        lambda head, feats, samples: head.loss(
            (feats.mean((2, 3), keepdim=True), ), samples)),
    Case(joints('RLEHead', num_joints=K),
         lambda head, feats, samples: head.loss(
             (feats.mean((2, 3), keepdim=True), ), samples)),
    Case(joints('IntegralRegressionHead', in_featuremap_size=(SIDE, SIDE),
                num_joints=K, loss=dict(
                    type='SmoothL1Loss', use_target_weight=True), **DECONV)),
    Case(joints('DSNTHead', in_featuremap_size=(SIDE, SIDE), num_joints=K,
                loss=dict(type='MultipleLossWrapper', losses=[
                    dict(type='SmoothL1Loss', use_target_weight=True),
                    dict(type='JSDiscretLoss', use_target_weight=True)]),
                **DECONV)),
    Case(joints('TemporalRegressionHead', num_joints=K),
         lambda head, feats, samples: head.loss(
             (feats.mean((2, 3), keepdim=True)[..., 0], ), samples)),
    Case(joints('TrajectoryRegressionHead', num_joints=1),
         lambda head, feats, samples: head.loss(
             (feats.mean((2, 3), keepdim=True)[..., 0], ),
             [s.root for s in samples])),
    Case(joints('MotionRegressionHead', embedding_size=8),
         lambda head, feats, samples: head.loss(
             feats.flatten(2)[..., :K].transpose(1, 2)[:, None],
             [s.motion for s in samples])),
    Case(dict(type='VisPredictHead', pose_cfg=joints(
        'HeatmapHead', out_channels=K, loss=POSE_CE, **DECONV))),
    Case(joints('AssociativeEmbeddingHead', num_keypoints=K, **DECONV)),
    Case(joints('CIDHead', num_keypoints=K, gfd_channels=4)),
    Case(dict(type='InternetHead',
              keypoint_head_cfg=dict(
                  in_channels=WIDTH, out_channels=4 * K, depth_size=4,
                  deconv_out_channels=()),
              root_head_cfg=dict(
                  in_channels=WIDTH, heatmap_size=4, hidden_dims=(8, )),
              hand_type_head_cfg=dict(
                  in_channels=WIDTH, num_labels=2, hidden_dims=(8, ))),
         lambda head, feats, samples: head.loss(
             (feats, ), [s.hands for s in samples])),
    Case(dict(type='YOLOXPoseHead', num_keypoints=17, featmap_strides=(2, ),
              head_module_cfg=dict(
                  num_classes=1, in_channels=WIDTH, feat_channels=WIDTH,
                  stacked_convs=1, norm_cfg=dict(type='BN')),
              prior_generator=dict(type='MlvlPointGenerator', offset=0,
                                   strides=[2]),
              assigner=dict(type='SimOTAAssigner', dynamic_k_indicator='oks'),
              loss_cls=dict(type='BCELoss', reduction='sum'),
              loss_bbox=dict(type='IoULoss', reduction='sum'),
              loss_obj=dict(type='BCELoss', use_target_weight=True,
                            reduction='sum'),
              loss_oks=dict(type='OKSLoss', reduction='none',
                            metainfo='configs/_base_/datasets/coco.py',
                            norm_target_weight=True),
              loss_vis=dict(type='BCELoss', use_target_weight=True)),
         lambda head, feats, samples: head.loss(
             (feats, ), [s.boxes for s in samples])),
    *left_out('it needs mmdet', 'RTMOHead'),
    *left_out('it needs mmcv with compiled ops', 'DEKRHead', 'EDPoseHead'),
    *left_out('it is the base of others', 'TransformerHead'),
]


def images(num: int, library: str, seed: int = 0) -> tuple[Tensor, list]:
    """Features and data samples of images that do not exist.

    Args:
        num (int): How many.
        library (str): 'mmpretrain', 'mmpose' or 'mmseg'.
        seed (int): Other ones with another. Defaults to 0.

    Returns:
        tuple[Tensor, list]: Features of shape (num, 8, 8, 8), and the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    feats = torch.rand(num, WIDTH, SIDE, SIDE, generator=generator)
    make = dict(mmpretrain=_label, mmpose=_pose,
                mmseg=mmseg_cases.sample)[library]
    return feats, [make(i, generator) for i in range(num)]


def _label(index: int, generator: torch.Generator):
    from mmpretrain.structures import DataSample, MultiTaskDataSample
    sample = DataSample(metainfo=dict(sample_idx=index))
    sample.set_gt_label(index % C)
    several = (torch.rand(C, generator=generator) > 0.5).float()
    several[index % C] = 1.
    sample.set_field(DataSample().set_gt_score(several), 'multi')
    sample.set_field(index % 2, 'is_matched')
    sample.set_field(torch.rand(SIDE * SIDE, WIDTH, generator=generator),
                     'fixed')
    # As many in every image, as the maskers of these methods do it.
    order = torch.rand(SIDE * SIDE, generator=generator).argsort()
    sample.set_field((order < 20).float(), 'mask')
    tasks = MultiTaskDataSample()
    for task, label in (('a', index % C), ('b', (index + 1) % C)):
        tasks.set_field(DataSample().set_gt_label(label), task)
    sample.set_field(tasks, 'tasks')
    return sample


def _pose(index: int, generator: torch.Generator):
    from mmpose.structures import PoseDataSample

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    def sample_of(fields=None, **labels):
        sample = PoseDataSample(metainfo=dict(id=index, img_id=index))
        sample.gt_instance_labels = InstanceData(**labels)
        if fields is not None:
            sample.gt_fields = fields
        return sample

    weights = torch.ones(1, K)
    weights[0, index % K] = 0.
    heatmaps = rand(K, SIDE, SIDE)
    width, height = (2 * side for side in INPUT)  # a bin is half a pixel
    sample = sample_of(
        PixelData(heatmaps=heatmaps),
        keypoint_labels=rand(1, K, 2), keypoint_weights=weights,
        keypoint_x_labels=rand(1, K, width).softmax(2),
        keypoint_y_labels=rand(1, K, height).softmax(2),
        lifting_target_label=rand(1, K, 3), lifting_target_weight=weights)
    sample.set_field(sample_of(
        lifting_target_label=rand(1, 1, 3),
        trajectory_weights=torch.ones(1, 1)), 'root')
    sample.set_field(sample_of(
        lifting_target_label=rand(1, K, 3),
        lifting_target_weight=torch.ones(1, K)), 'motion')
    from mmpose.structures import MultilevelPixelData
    levels = MultilevelPixelData()
    levels.set_field([heatmaps], 'heatmaps')
    sample.set_field(sample_of(
        levels, keypoint_weights=weights[:, None]), 'levels')
    sample.set_field(sample_of(
        PixelData(heatmaps=rand(2 * 4 * K, SIDE, SIDE)),  # two hands
        keypoint_weights=torch.ones(1, 2 * K),
        root_depth=rand(1), root_depth_weight=torch.ones(1),
        type=torch.tensor([[1., float(index % 2)]]),
        type_weight=torch.ones(1)), 'hands')
    sample.set_field(sample_of(
        bboxes=torch.tensor([[2., 2., 14., 14.]]),
        labels=torch.zeros(1).long(), keypoints=2 + 12 * rand(1, 17, 2),
        areas=torch.full((1, ), 100.), keypoints_visible=torch.ones(1, 17),
        keypoints_visible_weights=torch.ones(1, 17)), 'boxes')
    return sample
