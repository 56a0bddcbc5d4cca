"""Self-supervised models of mmpretrain, and one like DINO.

Their forward passes move queues, momentum encoders and centers.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.registry import init_default_scope
from torch import nn

from ausam_mm.losses import PerSampleLosses

from ..toy import difference, wrap

SIZE, CHANNELS = 8, 64


def neck(channels, pool):
    return dict(type='NonLinearNeck', in_channels=channels, hid_channels=16,
                out_channels=16, num_layers=2, with_bias=True,
                with_last_bn=False, with_avg_pool=pool)


def contrastive(kind, **options):
    return dict(type=kind, head=dict(
        type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'),
        temperature=0.02), **options)


CE, PREDICT = dict(type='CrossEntropyLoss'), neck(16, False)
LATENT = dict(type='LatentPredictHead', predictor=PREDICT,
              loss=dict(type='CosineSimilarityLoss'))
POOLED = dict(in_channels=CHANNELS, hid_channels=16, out_channels=16,
              with_avg_pool=True)
ACCEPTED = dict(
    MoCo=contrastive(
        'MoCo', queue_len=64, feat_dim=16, momentum=0.3,
        neck=dict(type='MoCoV2Neck', **POOLED)),
    BYOL=dict(type='BYOL', base_momentum=0.3, neck=neck(CHANNELS, True),
              head=LATENT),
    SimSiam=dict(type='SimSiam', neck=neck(CHANNELS, True), head=LATENT))
REFUSED = dict(
    SimCLR=contrastive('SimCLR', neck=neck(CHANNELS, True)),
    MoCoV3=dict(type='MoCoV3', base_momentum=0.3, neck=neck(CHANNELS, True),
                head=dict(type='MoCoV3Head', predictor=PREDICT, loss=CE)),
    SwAV=dict(type='SwAV', neck=dict(type='SwAVNeck', **POOLED), head=dict(
        type='SwAVHead', loss=dict(type='SwAVLoss', feat_dim=16, num_crops=[2],
                                   num_prototypes=8))),
    BarlowTwins=dict(
        type='BarlowTwins', neck=neck(CHANNELS, True), head=dict(
            type='LatentCrossCorrelationHead', in_channels=16,
            loss=dict(type='CrossCorrelationLoss'))))
# Has a loss for each place of a map, in one long list.
REFUSED['DenseCL'] = contrastive(
    'DenseCL', queue_len=64, feat_dim=16, momentum=0.3, loss_lambda=0.5,
    neck=dict(type='DenseCLNeck', in_channels=CHANNELS, hid_channels=16,
              out_channels=16, num_grid=None))


class CenteredLoss(nn.Module):
    def forward(self, student, teacher):
        return -(teacher * student.log_softmax(1)).sum(1).mean()


class DINO(BaseModel):
    """A teacher that is a mean of the student, and a running center."""

    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 64, 16), nn.GELU(), nn.Linear(16, 8))
        self.teacher = ExponentialMovingAverage(self.student, momentum=0.3)
        self.register_buffer('center', torch.zeros(1, 8))
        self.loss_module = CenteredLoss()

    def forward(self, inputs, data_samples=None, mode='loss'):
        ones, others = inputs
        with torch.no_grad():
            self.teacher.update_parameters(self.student)
            target = self.teacher(others)
            centered = F.softmax((target - self.center) / 0.1, dim=1)
            self.center = 0.9 * self.center + 0.1 * target.mean(0)
        return dict(loss=self.loss_module(self.student(ones), centered))


def build(name):
    """A model whose samples do not meet in a normalization."""
    MessageHub.get_current_instance().update_info('max_iters', 20)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    if name == 'DINO':
        model = DINO()
    else:
        import mmpretrain.models  # noqa: F401
        from mmpretrain.registry import MODELS
        model = MODELS.build(dict({**ACCEPTED, **REFUSED}[name], backbone=dict(
            type='ResNet', depth=18, base_channels=8, stem_channels=8,
            norm_cfg=dict(type='BN')), data_preprocessor=dict(
                type='SelfSupDataPreprocessor', mean=[0, 0, 0],
                std=[1, 1, 1])))
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def data(seed, size=SIZE, side=64):
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, size, 3, side, side, generator=generator)
    return dict(inputs=list(views), data_samples=[
        DataSample(metainfo=dict(sample_idx=100 * seed + i))
        for i in range(size)])


def own_losses(model, batch):
    """On each sample alone, from the state that the model has."""
    losses = []
    for i in range(SIZE):
        alone = copy.deepcopy(model)
        losses.append(alone.parse_losses(alone(
            [view[i:i + 1] for view in batch['inputs']],
            batch['data_samples'][i:i + 1], mode='loss'))[0].detach())
    return torch.stack(losses)


@pytest.mark.parametrize('name', [*ACCEPTED, 'DINO'])
def test_losses_are_those_of_the_model_on_each_sample_alone(
        name, monkeypatch):
    warned = []
    monkeypatch.setattr(PerSampleLosses, 'warn_random', warned.append)
    side = 8 if name == 'DINO' else 64
    model = build(name)
    wrapper = wrap(model, type='AUSAM', rho=0.5, warmup_iters=1, ramp_iters=0,
                   alpha=0.5)
    steps, observe = [], wrapper.observe
    wrapper.observe = lambda step: (steps.append(step), observe(step))
    for seed in range(3):
        batch = data(seed, side=side)
        expected = own_losses(model, batch)
        model.train_step(batch, wrapper)
        seen = steps[-1].selection.ascent
        torch.testing.assert_close(
            steps[-1].first.losses, expected[seen], rtol=1e-3, atol=1e-5)
    assert len(seen) == SIZE // 2
    # MoCo shuffles its samples, and is compared all the same.
    assert not warned


@pytest.mark.parametrize('name', [*ACCEPTED, 'DINO', 'MoCoV3'])
def test_sam_moves_queues_teachers_and_centers_as_one_pass_does(name):
    side = 8 if name == 'DINO' else 64
    model, once = build(name), build(name)
    wrapper = wrap(model, lr=0., weight_decay=0., type='SAM', rho=2.)
    baseline = wrap(once, lr=0., weight_decay=0., type='OptimWrapper')
    for seed in range(3):
        for each, optim in ((model, wrapper), (once, baseline)):
            torch.manual_seed(seed)
            each.train_step(data(seed, side=side), optim)
    assert difference(model, once) == 0
    for (key, buffer), other in zip(model.named_buffers(), once.buffers()):
        torch.testing.assert_close(buffer, other, msg=key)


@pytest.mark.parametrize('name', REFUSED)
def test_what_compares_samples_is_refused_in_words_that_are_understood(name):
    model = build(name)
    wrapper = wrap(model, type='AUSAM', rho=0.5, warmup_iters=1)
    with pytest.raises(ValueError, match='compares .* with each other') \
            as error:
        model.train_step(data(0), wrapper)
    assert 'SAM, which needs no per-sample losses' in str(error.value)
