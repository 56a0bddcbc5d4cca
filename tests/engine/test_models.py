"""Heads of mmpose and mmpretrain under AUSAM, against the models alone."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

from ausam_mm.sampling import sample_keys

from ..toy import record_selections, wrap

ROOT = Path(__file__).parents[2]
B, K = 8, 5
SIZE = (64, 64)
SIMCC = dict(type='SimCCLabel', input_size=SIZE, sigma=4.)
HEATMAP = dict(
    type='MSRAHeatmap', input_size=SIZE, heatmap_size=(16, 16), sigma=2)
BACKBONE = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
HEADS = dict(
    simcc=dict(
        type='SimCCHead',
        in_channels=32,
        out_channels=K,
        input_size=SIZE,
        in_featuremap_size=(2, 2),
        deconv_out_channels=None,
        decoder=SIMCC),
    rtmpose=dict(
        type='RTMCCHead',
        in_channels=32,
        out_channels=K,
        input_size=SIZE,
        in_featuremap_size=(2, 2),
        gau_cfg=dict(
            hidden_dims=16,
            s=8,
            expansion_factor=2,
            dropout_rate=0.,
            drop_path=0.,
            act_fn='SiLU',
            use_rel_bias=False,
            pos_enc=False),
        loss=dict(type='KLDiscretLoss', beta=10., label_softmax=True),
        decoder=SIMCC),
    heatmap=dict(
        type='HeatmapHead',
        in_channels=32,
        out_channels=K,
        deconv_out_channels=(8, 8, 8),
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=HEATMAP))


def pose_model(name):
    init_default_scope('mmpose')
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='mmpose.TopdownPoseEstimator',
            data_preprocessor=dict(type='PoseDataPreprocessor'),
            backbone=BACKBONE,
            head=HEADS[name])).train()


def pose_batch(name):
    from mmpose.registry import KEYPOINT_CODECS
    from mmpose.structures import PoseDataSample
    codec = KEYPOINT_CODECS.build(HEATMAP if name == 'heatmap' else SIMCC)
    generator = torch.Generator().manual_seed(0)
    samples = []
    for i in range(B):
        joints = torch.rand(1, K, 2, generator=generator).numpy() * 64
        encoded = codec.encode(joints, torch.ones(1, K).numpy())
        sample = PoseDataSample(metainfo=dict(id=i, img_id=i // 2))
        labels = {
            key: value
            for key, value in encoded.items() if key.startswith('keypoint_')
        }
        sample.gt_instance_labels = InstanceData(**labels).to_tensor()
        if 'heatmaps' in encoded:
            sample.gt_fields = PixelData(
                heatmaps=encoded['heatmaps']).to_tensor()
        samples.append(sample)
    return dict(
        inputs=list(torch.rand(B, 3, 64, 64, generator=generator)),
        data_samples=samples)


def part(data, index):
    return {key: [value[i] for i in index] for key, value in data.items()}


def loss_of(model, data):
    data = model.data_preprocessor(copy.deepcopy(data), True)
    return model.parse_losses(model(**data, mode='loss'))[0]


@pytest.mark.parametrize('name,scale', [('simcc', B / 4), ('rtmpose', B / 4),
                                        ('heatmap', 1.)])
def test_the_gradient_of_a_subset_keeps_the_batch_scale(name, scale):
    model, data = pose_model(name), pose_batch(name)
    reference = copy.deepcopy(model)
    wrapper = wrap(
        model, type='AUSAM', rho=0., alpha=0.5, lr=0., warmup_iters=1)
    model.train_step(copy.deepcopy(data), wrapper)
    grads, selections = [], record_selections(wrapper)
    wrapper.base.step = lambda: grads.extend(
        p.grad.clone() for p in model.parameters())
    model.train_step(copy.deepcopy(data), wrapper)
    index = selections[0].descent.tolist()
    assert len(index) == 4
    loss = scale * loss_of(reference, part(data, index))
    expected = torch.autograd.grad(loss, list(reference.parameters()))
    for grad, want in zip(grads, expected):
        torch.testing.assert_close(grad, want, rtol=1e-4, atol=1e-6)
    assert wrapper.reductions == {
        'head.loss_module': 'mean' if scale == 1 else 'sum'
    }


@pytest.mark.parametrize('name', list(HEADS))
def test_dlp_follows_the_loss_of_the_model_on_each_sample_alone(name):
    """With BatchNorm in eval mode, where samples do not see each other."""
    model, data = pose_model(name), pose_batch(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    wrapper = wrap(model, type='AUSAM', rho=0.1, alpha=1., lr=0.)
    records, observe = [], wrapper.observe
    wrapper.observe = lambda step: (records.append(step), observe(step))
    model.train_step(copy.deepcopy(data), wrapper)
    own = torch.stack([loss_of(model, part(data, [i])) for i in range(B)])
    torch.testing.assert_close(
        records[0].first.losses, own.detach(), rtol=1e-4, atol=1e-6)
    dlp = (records[0].second.losses - own.detach()).abs().double()
    # `id` tells the two persons of an image apart.
    assert len(wrapper.history) == B
    torch.testing.assert_close(
        wrapper.history.means(sample_keys(data)), dlp, rtol=1e-2, atol=1e-5)


def test_mixup_is_applied_once_to_the_selected_samples():
    init_default_scope('mmpretrain')
    from mmpretrain.structures import DataSample
    torch.manual_seed(0)
    cfg = Config.fromfile(
        ROOT / 'configs/_base_/models/resnet18-c16_cifar.py').model
    cfg.data_preprocessor = dict(num_classes=10)
    cfg.head.loss = dict(type='CrossEntropyLoss', use_soft=True)
    cfg.train_cfg = dict(augments=dict(type='Mixup', alpha=1.))
    model = MODELS.build(cfg).train()
    wrapper = wrap(model, type='AUSAM', alpha=0.5, warmup_iters=1)
    mixed, seen = [], []
    augment = model.data_preprocessor.batch_augments
    model.data_preprocessor.batch_augments = lambda inputs, score: (
        mixed.append(len(inputs)) or augment(inputs, score))
    model.backbone.register_forward_hook(
        lambda module, args, output: seen.append(args[0].clone()))
    for _ in range(2):
        samples = [
            DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i % 3)
            for i in range(B)
        ]
        model.train_step(
            dict(inputs=torch.rand(B, 3, 16, 16), data_samples=samples),
            wrapper)
    assert mixed == [8, 4]
    first, second = seen[-2:]
    assert torch.equal(first, second) and len(first) == 4
