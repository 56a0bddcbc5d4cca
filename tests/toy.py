"""A small MMEngine model, its data, and a training in torch to compare with.

The references know nothing of ausam_mm: they are loops over torch tensors
written from the papers' algorithm boxes.
"""

import torch
from mmengine.model import BaseModel
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.structures import BaseDataElement
from torch import nn

import ausam_mm  # noqa: F401

from . import amp  # noqa: F401, whoever builds a wrapper may name it


class SquaredLoss(nn.Module):
    """Mean (or sum) over the batch of each sample's squared error."""

    def __init__(self, reduction='mean'):
        super().__init__()
        self.reduction = reduction

    def forward(self, pred, target):
        return getattr((pred - target).pow(2).sum(1), self.reduction)()


class ToyModel(BaseModel):
    """An MLP with, on demand, BatchNorm and dropout."""

    def __init__(self, norm=False, dropout=0., reduction='mean'):
        super().__init__()
        layers = [nn.Linear(6, 16)]
        if norm:
            layers.append(nn.BatchNorm1d(16))
        layers.append(nn.Tanh())
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(16, 3))
        self.net = nn.Sequential(*layers)
        self.loss_module = SquaredLoss(reduction)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if isinstance(inputs, list):  # pseudo_collate's
            inputs = torch.stack(inputs)
        pred = self.net(inputs.to(next(self.parameters()).dtype))
        if mode == 'tensor':
            return pred
        target = torch.stack([sample.gt for sample in data_samples])
        return dict(loss=self.loss_module(pred, target))


def build(seed=0, **kwargs):
    torch.manual_seed(seed)
    return ToyModel(**kwargs).double().train()


def wrap(model, lr=0.05, momentum=0.9, weight_decay=1e-3, **cfg):
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay)
    return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer))


def batch(seed=0, size=16, first_index=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 6, generator=generator, dtype=torch.double)
    targets = torch.randn(size, 3, generator=generator, dtype=torch.double)
    samples = [
        BaseDataElement(metainfo=dict(sample_idx=first_index + i), gt=target)
        for i, target in enumerate(targets)
    ]
    return dict(inputs=inputs, data_samples=samples)


def sample_losses(model, data):
    """The loss of each sample, shape (b, ), straight from the formula."""
    target = torch.stack([sample.gt for sample in data['data_samples']])
    return (model.net(data['inputs']) - target).pow(2).sum(1)


def record_selections(wrapper):
    """The list that a wrapper's selections are appended to from now on."""
    selections, select = [], wrapper.select

    def recorded(data):
        selections.append(select(data))
        return selections[-1]

    wrapper.select = recorded
    return selections


def reference_step(model, optimizer, data, rho, ascent=None, descent=None,
                   eta=None):
    """One step of two passes in torch; returns the DLP of the first's samples.

    ``ascent`` and ``descent`` are the batch positions that the passes see, or
    None for all; ``eta`` is ASAM's, or None for SAM.
    """
    everything = torch.arange(len(data['inputs']))
    ascent = everything if ascent is None else ascent
    descent = everything if descent is None else descent
    params = list(model.parameters())

    before = sample_losses(model, data)[ascent]
    grads = torch.autograd.grad(before.mean(), params)
    scales = [1. if eta is None else p.detach().abs() + eta for p in params]
    norm = torch.cat([(t * g).flatten()
                      for t, g in zip(scales, grads)]).norm()
    eps = [rho * t * t * g / norm for t, g in zip(scales, grads)]
    at_w = [p.detach().clone() for p in params]
    for p, e in zip(params, eps):
        p.data = p.data + e
    after = sample_losses(model, data)
    grads = torch.autograd.grad(after[descent].mean(), params)
    for p, w, g in zip(params, at_w, grads):
        p.data, p.grad = w, g
    optimizer.step()
    return (after.detach()[ascent] - before.detach()).abs()


def difference(model, other):
    """The largest absolute difference between two models' parameters."""
    return max((p - q).abs().max().item()
               for p, q in zip(model.parameters(), other.parameters()))
