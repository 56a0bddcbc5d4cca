"""Every loss module of the libraries, with made-up arguments."""

from contextlib import contextmanager
from importlib.util import find_spec

import torch
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils._pytree import tree_map

from ausam_mm.engine.aside import Aside
from ausam_mm.engine.forward_state import ForwardState
from ausam_mm.losses import PassRecord, PerSampleLosses
from ausam_mm.undo import Undo

from . import mmseg_cases
from .mmseg_cases import N

C, K = 5, 7


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(
        sum(shape)))


LABELS = torch.arange(N) % C
ONE_HOT = nn.functional.one_hot(LABELS, C).float()
SOFT = rand(N, C).softmax(1)
MULTI = (rand(N, C) > 0.5).float()
SCORES = rand(N, C) * 4 - 2
HEATMAPS = (rand(N, K, 8, 6), rand(N, K, 8, 7)[..., :6])
WEIGHTS = (rand(N, K) > 0.3).float()
POINTS = (rand(N, K, 2), rand(N, K, 3)[..., :2])

BOXES = torch.tensor([[2., 3., 9., 8.]]).repeat(N, 1)

# (type, options, positional arguments, named arguments)
MMPRETRAIN = [
    ('CrossEntropyLoss', {}, (SCORES, LABELS), {}),
    ('CrossEntropyLoss', {}, (SCORES, LABELS), dict(avg_factor=N)),
    ('CrossEntropyLoss', dict(class_weight=[1., 2., 3., 4., 5.]),
     (SCORES, LABELS), dict(avg_factor=N)),
    ('CrossEntropyLoss', dict(use_soft=True), (SCORES, SOFT), {}),
    ('CrossEntropyLoss', dict(use_sigmoid=True), (SCORES, MULTI), {}),
    ('CrossEntropyLoss', dict(use_sigmoid=True), (SCORES, MULTI),
     dict(avg_factor=N)),
    ('CrossEntropyLoss', dict(reduction='sum', loss_weight=0.3),
     (SCORES, LABELS), {}),
    ('LabelSmoothLoss', dict(label_smooth_val=0.1), (SCORES, LABELS),
     dict(avg_factor=N)),
    ('LabelSmoothLoss', dict(label_smooth_val=0.1), (SCORES, SOFT), {}),
    ('LabelSmoothLoss', dict(label_smooth_val=0.1, mode='multi_label',
                             use_sigmoid=True), (SCORES, MULTI),
     dict(avg_factor=N)),
    ('FocalLoss', {}, (SCORES, MULTI), dict(avg_factor=N)),
    ('FocalLoss', {}, (SCORES, LABELS), {}),
    ('AsymmetricLoss', {}, (SCORES, MULTI), dict(avg_factor=N)),
    ('AsymmetricLoss', {}, (SCORES, LABELS), {}),
    ('CosineSimilarityLoss', {}, (SCORES, SOFT), {}),
    ('RegressionLoss', dict(loss_type='L1Loss'), (SCORES, SOFT),
     dict(avg_factor=N)),
    ('PixelReconstructionLoss', dict(criterion='L2'),
     (rand(N, 4, 12), rand(N, 4, 13)[..., :12]), {}),
]

MMPOSE = [
    ('KeypointMSELoss', dict(use_target_weight=True), (*HEATMAPS, WEIGHTS)),
    ('KeypointMSELoss', {}, (*HEATMAPS, None)),
    ('KeypointOHKMMSELoss', dict(use_target_weight=True, topk=3),
     (*HEATMAPS, WEIGHTS)),
    ('CombinedTargetMSELoss', dict(use_target_weight=True),
     (rand(N, 9, 8, 6), rand(N, 9, 8, 7)[..., :6], WEIGHTS[:, :3])),
    ('AdaptiveWingLoss', dict(use_target_weight=True),
     (*HEATMAPS, WEIGHTS)),
    ('KLDiscretLoss', {}, ((rand(N, K, 12), rand(N, K, 16)),
                           (rand(N, K, 13)[..., :12].softmax(2),
                            rand(N, K, 17)[..., :16].softmax(2)), WEIGHTS)),
    ('KLDiscretLoss',
     dict(beta=10., label_softmax=True, mask=[1, 3], mask_weight=0.3),
     ((rand(N, K, 12), rand(N, K, 16)), (rand(N, K, 13)[..., :12],
                                         rand(N, K, 17)[..., :16]),
      WEIGHTS)),
    ('JSDiscretLoss', {}, (*(h.flatten(2).softmax(2).view_as(h)
                             for h in HEATMAPS), WEIGHTS + 0.5)),
    ('BCELoss', dict(use_target_weight=True), (rand(N, K), WEIGHTS, WEIGHTS)),
    ('BCELoss', dict(reduction='sum'), (rand(N, K), WEIGHTS)),
    ('BCELoss', dict(reduction='none'), (rand(N, K), WEIGHTS)),
    ('VariFocalLoss', dict(use_target_weight=True),
     (rand(N, K), rand(N, K) * WEIGHTS, WEIGHTS)),
    ('RLELoss', dict(use_target_weight=True),
     (POINTS[0], rand(N, K, 2), POINTS[1], WEIGHTS[..., None])),
    ('RLELoss', dict(size_average=False),
     (POINTS[0], rand(N, K, 2), POINTS[1])),
    ('SmoothL1Loss', dict(use_target_weight=True), (*POINTS, WEIGHTS)),
    ('WingLoss', dict(use_target_weight=True), (*POINTS, WEIGHTS[..., None])),
    ('SoftWingLoss', {}, POINTS),
    ('MPJPELoss', dict(use_target_weight=True),
     (*POINTS, WEIGHTS[..., None])),
    ('MSELoss', {}, POINTS),
    ('L1Loss', dict(use_target_weight=True), (*POINTS, WEIGHTS)),
    ('L1Loss', dict(reduction='sum'), POINTS),
    ('IoULoss', {}, (BOXES + rand(N, 4), BOXES)),
    ('OKSLoss', {}, (*POINTS, WEIGHTS, rand(N) + 0.5)),
    ('OKSLoss', dict(reduction='none', mode='square'), POINTS),
    ('MLECCLoss', {}, ((rand(N, K, 12), rand(N, K, 16)),
                       (rand(N, K, 13)[..., :12], rand(N, K, 17)[..., :16]),
                       WEIGHTS)),
    ('SoftWeightSmoothL1Loss', dict(use_target_weight=True),
     (*POINTS, WEIGHTS)),
]

REFUSED = [
    ('mmpretrain', 'SeesawLoss', dict(num_classes=C), (SCORES, LABELS)),
    ('mmpose', 'MPJPEVelocityJointLoss', {}, POINTS),
    ('mmpose', 'BoneLoss', dict(joint_parents=[0, 0, 1, 2, 3, 4, 5]),
     POINTS),
    ('mmpose', 'InfoNCELoss', {}, (SCORES, )),
    *mmseg_cases.REFUSED,
]

# Divided by a number of the batch, which the labels tell.
PEAKS = (rand(N, K, 8, 6) > 0.9).float() + rand(N, K, 8, 6).clamp(max=0.5)
COUNTED = [
    ('torch', 'CrossEntropyLoss', dict(weight=torch.arange(1., C + 1)),
     (SCORES, LABELS)),
    ('torch', 'CrossEntropyLoss', dict(ignore_index=2), (SCORES, LABELS)),
    ('torch', 'CrossEntropyLoss', dict(
        ignore_index=0, label_smoothing=0.1,
        weight=torch.arange(1., C + 1)), (SCORES, LABELS)),
    ('torch', 'NLLLoss', dict(weight=torch.arange(1., C + 1)),
     (SCORES.log_softmax(1), LABELS)),
    ('torch', 'CrossEntropyLoss', dict(ignore_index=1),
     (rand(N, C, 4), torch.arange(4 * N).reshape(N, 4) % C)),
    ('mmpretrain', 'PixelReconstructionLoss', dict(criterion='L1'),
     (rand(N, 4, 12), rand(N, 4, 13)[..., :12], MULTI[:, :4])),
    ('mmpretrain', 'CosineSimilarityLoss', {},
     (rand(N, 4, 12), rand(N, 4, 13)[..., :12], MULTI[:, :4])),
    ('mmpose', 'SoftWeightSmoothL1Loss',
     dict(use_target_weight=True, supervise_empty=False),
     (*POINTS, WEIGHTS)),
    ('mmpose', 'FocalHeatmapLoss', {},
     (HEATMAPS[0].clamp(0.1, 0.9), PEAKS.clamp(max=1), WEIGHTS)),
    *mmseg_cases.COUNTED,
]

# Refused by what they are, whatever they are called with.
WHOLE_BATCH = [
    ('mmpretrain', 'CrossCorrelationLoss', {}),
    ('mmpretrain', 'SwAVLoss', dict(feat_dim=4)),
    ('mmpose', 'SemiSupervisionLoss', dict(joint_parents=[0, 0, 1])),
    ('mmpose', 'AssociativeEmbeddingLoss', {}),
    *mmseg_cases.WHOLE_BATCH,
]

NOT_TRIED = {
    'CAELoss': 'it returns two losses: see CAEHead',
    'CombinedLoss': 'it only holds others, which are looked at',
    'MultipleLossWrapper': 'it only holds others, which are looked at',
    'FeaLoss': 'it is of a distillation between two models',
    'KDLoss': 'it is of a distillation between two models',
}

CASES = [('mmpretrain', *case) for case in MMPRETRAIN] + \
    [('mmpose', *case, {}) for case in MMPOSE] + mmseg_cases.LOSSES


class Holder(BaseModel):
    """A model of which only the loss module matters."""

    def __init__(self, loss):
        super().__init__()
        self.loss_module = loss
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, args, kwargs):
        if 'avg_factor' in kwargs:  # heads give the number of samples
            kwargs = dict(kwargs, avg_factor=len(args[0]))
        return dict(loss=self.loss_module(*args, **kwargs))


def is_known(package, kind):
    """Whether the installed release of a library has a loss or a head."""
    if package == 'torch':
        return True
    if find_spec(package) is None:
        return False
    __import__(f'{package}.models')
    registry = __import__(f'{package}.registry').registry.MODELS
    return kind in registry.module_dict


def build_loss(package, kind, options):
    """A loss module of a library."""
    if package == 'torch':
        return getattr(nn, kind)(**options)
    init_default_scope(package)
    from mmengine.registry import MODELS
    return MODELS.build(dict(type=f'{package}.{kind}', **options))


def watched(module, args, kwargs, batch=None, **record):
    """Calls a module as a step does, on a batch that was judged.

    Returns:
        tuple: What the model went on with, the record, what watched it.
    """
    model = Holder(module)
    losses, state = PerSampleLosses(model), ForwardState(model)
    record = PassRecord(**{**dict(num_samples=N, batch_size=N), **record})
    call = (args, kwargs), {}
    size = record.num_samples
    if size > 1:
        with losses.watch(lambda: records[-1]):
            records = []

            @contextmanager
            def watch(other):
                records.append(other)
                yield

            state.save()
            Aside(model, model, losses, state, watch, Undo()).judge(
                call, size, batch)
    args = tree_map(lambda arg: arg.detach().requires_grad_()
                    if isinstance(arg, torch.Tensor)
                    and arg.is_floating_point()
                    and not arg.requires_grad else arg, args)
    with losses.watch(lambda: record):
        output = model(args, kwargs)['loss']
    output.mean().backward(retain_graph=True)
    losses.check(record)
    return output, record, losses


def one(value, i):
    """The part of arguments that is sample i, as a batch of one."""
    if isinstance(value, tuple):
        return tuple(one(part, i) for part in value)
    return value[i:i + 1] if isinstance(value, torch.Tensor) else value
