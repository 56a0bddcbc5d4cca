"""Small detectors of mmdet, made-up images with boxes, and references."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

import ausam_mm  # noqa: F401

pytest.importorskip('mmdet', reason='mmdet is not installed')

CLASSES, SIZE = 3, 64
ANCHORS = dict(
    type='AnchorGenerator', ratios=[0.5, 1., 2.], octave_base_scale=4,
    scales_per_octave=1, strides=[8, 16])
ONE_ANCHOR = dict(
    type='AnchorGenerator', ratios=[1.], octave_base_scale=4,
    scales_per_octave=1, strides=[8, 16])
DELTAS = dict(type='DeltaXYWHBBoxCoder')
FOCAL = dict(type='FocalLoss', use_sigmoid=True, gamma=2., alpha=0.25)
CENTERNESS = dict(type='CrossEntropyLoss', use_sigmoid=True)
MAX_IOU = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4,
               min_pos_iou=0, ignore_iof_thr=-1)
HEADS = dict(
    RetinaNet=dict(
        type='RetinaHead', stacked_convs=1, anchor_generator=ANCHORS,
        bbox_coder=DELTAS, loss_cls=FOCAL, loss_bbox=dict(type='L1Loss')),
    FCOS=dict(
        type='FCOSHead', stacked_convs=1, strides=[8, 16],
        regress_ranges=((-1, 32), (32, 1e8)),
        norm_cfg=dict(type='BN'), loss_cls=FOCAL,
        loss_bbox=dict(type='IoULoss'), loss_centerness=CENTERNESS),
    ATSS=dict(
        type='ATSSHead', stacked_convs=1, anchor_generator=ONE_ANCHOR,
        bbox_coder=DELTAS, norm_cfg=dict(type='BN'), loss_cls=FOCAL,
        loss_bbox=dict(type='GIoULoss'), loss_centerness=CENTERNESS),
)
ASSIGNERS = dict(
    RetinaNet=dict(assigner=MAX_IOU, sampler=dict(type='PseudoSampler')),
    ATSS=dict(assigner=dict(type='ATSSAssigner', topk=9)))
QUERIES, BACKGROUND = 6, 0.1
ATTENTION = dict(embed_dims=8, num_heads=2, dropout=0.1, batch_first=True)
FFN = dict(embed_dims=8, feedforward_channels=16, num_fcs=2, ffn_drop=0.1,
           act_cfg=dict(type='ReLU', inplace=True))
WITH_RULES = ('RetinaNet', 'FCOS', 'ATSS', 'DETR')
# Other heads and options, as what they are like.
VARIANTS = {
    'RetinaNet': {
        'RetinaHead, boxes decoded': dict(
            reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss')),
        'RetinaSepBNHead': dict(type='RetinaSepBNHead', num_ins=2,
                                norm_cfg=dict(type='BN')),
        'SSDHead': dict(
            type='SSDHead', in_channels=(8, 8), loss_cls=None, loss_bbox=None,
            anchor_generator=dict(
                type='SSDAnchorGenerator', scale_major=False, input_size=SIZE,
                min_sizes=[12, 24], max_sizes=[24, 48], strides=[8, 16],
                ratios=[[2], [2]])),
    },
    'FCOS': {
        'FCOSHead, center_sampling': dict(
            center_sampling=True, norm_on_bbox=True, centerness_on_reg=True,
            loss_bbox=dict(type='GIoULoss')),
    },
    'ATSS': {},
    'DETR': {
        'DETRHead, sync_cls_avg_factor': dict(sync_cls_avg_factor=True),
    },
}


def config(kind):
    """The config of a detector with a few thousand parameters."""
    model = dict(
        type=kind,
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[0., 0., 0.], std=[1., 1., 1.],
            pad_size_divisor=16),
        backbone=dict(
            type='ResNet', depth=18, base_channels=4, num_stages=3,
            strides=(1, 2, 2), dilations=(1, 1, 1),
            out_indices=(1, 2), style='pytorch'),
        neck=dict(type='FPN', in_channels=[8, 16], out_channels=8,
                  num_outs=2),
        test_cfg=dict(nms_pre=50, score_thr=0.0, max_per_img=20,
                      nms=dict(type='nms', iou_threshold=0.5)))
    if kind == 'DETR':
        model['backbone']['out_indices'] = (2, )
        return dict(
            model, num_queries=QUERIES, test_cfg=dict(max_per_img=QUERIES),
            train_cfg=dict(assigner=dict(
                type='HungarianAssigner', match_costs=[
                    dict(type='ClassificationCost', weight=1.),
                    dict(type='BBoxL1Cost', weight=5., box_format='xywh'),
                    dict(type='IoUCost', iou_mode='giou', weight=2.)])),
            neck=dict(type='ChannelMapper', in_channels=[16], kernel_size=1,
                      out_channels=8, act_cfg=None, num_outs=1),
            encoder=dict(num_layers=1, layer_cfg=dict(
                self_attn_cfg=ATTENTION, ffn_cfg=FFN)),
            decoder=dict(num_layers=2, return_intermediate=True,
                         layer_cfg=dict(self_attn_cfg=ATTENTION,
                                        cross_attn_cfg=ATTENTION,
                                        ffn_cfg=FFN)),
            positional_encoding=dict(num_feats=4, normalize=True),
            bbox_head=dict(
                type='DETRHead', num_classes=CLASSES, embed_dims=8,
                loss_cls=dict(type='CrossEntropyLoss', class_weight=1.,
                              bg_cls_weight=BACKGROUND)))
    if kind == 'YOLOX':
        return dict(
            type=kind, data_preprocessor=model['data_preprocessor'],
            backbone=dict(type='CSPDarknet', deepen_factor=0.33,
                          widen_factor=0.125, out_indices=(2, 3, 4)),
            neck=dict(type='YOLOXPAFPN', in_channels=[32, 64, 128],
                      out_channels=16, num_csp_blocks=1),
            bbox_head=dict(type='YOLOXHead', num_classes=CLASSES,
                           in_channels=16, feat_channels=16),
            train_cfg=dict(assigner=dict(type='SimOTAAssigner')),
            test_cfg=dict(score_thr=0.01, nms=dict(type='nms',
                                                   iou_threshold=0.6)))
    train_cfg = ASSIGNERS.get(kind)
    return dict(
        model,
        bbox_head=dict(HEADS[kind], num_classes=CLASSES, in_channels=8,
                       feat_channels=8),
        train_cfg=train_cfg and dict(
            train_cfg, allowed_border=-1, pos_weight=-1))


def build(kind, seed=0, **head):
    """A detector in train mode, with its normalization layers in eval."""
    init_default_scope('mmdet')
    import mmdet.models  # noqa: F401
    torch.manual_seed(seed)
    cfg = ConfigDict(copy.deepcopy(config(kind)), _scope_='mmdet')
    cfg.bbox_head = ConfigDict({**cfg.bbox_head, **copy.deepcopy(head)})
    if head.get('type') == 'SSDHead':
        cfg.train_cfg.update(smoothl1_beta=1., neg_pos_ratio=3)
        cfg.bbox_head = ConfigDict({
            name: value for name, value in cfg.bbox_head.items()
            if name not in ('stacked_convs', 'feat_channels')
            and value is not None})
    model = MODELS.build(cfg)
    for p in model.parameters():
        if p.dim() > 1:  # so that queries and images differ
            torch.nn.init.normal_(p, std=(p[0].numel() or 1)**-.5)
    # Layers in which samples see each other, or chance.
    return frozen(model.train())


def frozen(model):
    """Normalization and dropout as in evaluation, whatever train() does."""
    def train(mode=True):
        type(model).train(model, mode)
        for module in model.modules():
            if isinstance(module, (torch.nn.Dropout,
                                   torch.nn.MultiheadAttention,
                                   torch.nn.modules.batchnorm._BatchNorm)):
                module.eval()
        return model
    model.train = train
    return train()


def batch(seed=0, size=4, first=0, boxes=(5, 1, 0, 2), shapes=None):
    """Images with 0 to 5 boxes each, as the data loader collates them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    g = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for i in range(size):
        height, width = shapes[i] if shapes else (SIZE, SIZE)
        num = boxes[i % len(boxes)]
        side = 12 + 28 * torch.rand(num, 2, generator=g)
        corner = (torch.tensor([width, height]) - side) * torch.rand(
            num, 2, generator=g)
        sample = DetDataSample(metainfo=dict(
            img_id=first + i, img_path=f'{first + i}.png',
            img_shape=(height, width), ori_shape=(height, width),
            scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.cat([corner, corner + side], 1)),
            labels=torch.randint(0, CLASSES, (num, ), generator=g))
        sample.ignored_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.zeros(0, 4)),
            labels=torch.zeros(0, dtype=torch.long))
        inputs.append(torch.randn(3, height, width, generator=g))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def part(data, index):
    """The part of a batch."""
    return {name: [values[i] for i in index] for name, values in data.items()}


def losses_of(model, data):
    """The losses of a batch by name, each one number."""
    data = model.data_preprocessor(data, True)
    found = model(**data, mode='loss')
    return {name: sum(each.mean() for each in (
        value if isinstance(value, list) else [value]))
        for name, value in found.items() if 'loss' in name}


def divisors(kind, model, data):
    """By what the losses of an image are divided, from its targets.

    Returns:
        dict: (the number, what it is at least) by the end of a loss's name.
    """
    head = model.bbox_head
    data = model.data_preprocessor(data, True)
    sample, = data['data_samples']
    truth, meta = sample.gt_instances, sample.metainfo
    if kind == 'DETR':
        num = float(len(truth))
        every = num + head.bg_cls_weight * (QUERIES - num)
        return dict(loss_cls=(every, 1), loss_bbox=(num, 1),
                    loss_iou=(num, 1))
    with torch.no_grad():
        sizes = [level.shape[-2:] for level in model.extract_feat(
            data['inputs'])]
    if kind == 'FCOS':
        points = head.prior_generator.grid_priors(sizes, device='cpu')
        labels, targets = head.get_targets(points, [truth])
        labels, targets = torch.cat(labels), torch.cat(targets)
        positive = labels < CLASSES
        central = float(head.centerness_target(targets[positive]).sum())
        num = float(positive.sum())
        return dict(loss_cls=(num, 1), loss_centerness=(num, 1),
                    loss_bbox=(central, 1e-6))
    anchors, flags = head.get_anchors(sizes, [meta], device='cpu')
    found = head.get_targets(anchors, flags, [truth], [meta])
    if kind == 'RetinaNet':
        return dict(loss_cls=(found[4], 0), loss_bbox=(found[4], 0))
    anchors, labels, boxes = (torch.cat(each, 1)[0] for each in (
        found[0], found[1], found[3]))
    positive = labels < CLASSES
    central = float(head.centerness_target(
        anchors[positive], boxes[positive]).sum())
    return dict(loss_cls=(found[5], 0), loss_centerness=(found[5], 0),
                loss_bbox=(central, 0 if kind != 'ATSS' else 1))


def alone(kind, model, data, total=None, others=()):
    """b times what each image adds to the loss of a batch.

    The model is run on each image by itself, and its losses are multiplied by
    what divided them and divided by what divides the batch.

    Args:
        kind (str): The detector.
        model (nn.Module): The same.
        data (dict): The batch.
        others (list): Batches of other processes.

    Returns:
        Tensor: Shape (b, ), with a graph.
    """
    size = len(data['inputs'])
    own = [divisors(kind, model, part(data, [i])) for i in range(size)]
    every = own + [divisors(kind, model, part(other, [i]))
                   for other in others for i in range(len(other['inputs']))]
    rows = []
    for i in range(size):
        row = 0.
        for name, loss in losses_of(model, part(data, [i])).items():
            end = name.split('.')[-1]
            synced = others and (kind, end) not in (
                ('DETR', 'loss_cls'), ('RetinaNet', 'loss_cls'),
                ('RetinaNet', 'loss_bbox'))
            whole = sum(one[end][0] for one in (every if synced else own))
            whole = whole / (1 + len(others) if synced else 1)
            least = own[i][end][1]
            row = row + loss * max(own[i][end][0], least) / max(whole, least)
        rows.append(size * row)
    return torch.stack(rows)
