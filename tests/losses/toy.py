"""A model whose loss a test writes, and its samples' own losses."""

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn

from ..toy import wrap

FEATURES, CLASSES, SIZE = 6, 5, 12


class Toy(BaseModel):
    """A network with two heads.

    Args:
        loss_of (Callable): ``loss_of(model, features, labels)`` returns the
            loss, or a dict of losses.
        zero_init (bool): Whether the first head starts with zeros.
        **modules: More modules of the model.
    """

    def __init__(self, loss_of, zero_init=False, **modules):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh())
        self.fc = nn.Linear(8, CLASSES)
        self.aux = nn.Linear(8, CLASSES)
        if zero_init:
            nn.init.zeros_(self.fc.weight)
            nn.init.zeros_(self.fc.bias)
        for name, module in modules.items():
            setattr(self, name, module)
        self.loss_of = loss_of

    def forward(self, inputs, data_samples=None, mode='tensor'):
        features = self.net(inputs)
        labels = torch.stack([sample.gt for sample in data_samples])
        loss = self.loss_of(self, features, labels)
        return loss if isinstance(loss, dict) else dict(loss=loss)


def make(loss_of, seed=0, **options):
    torch.manual_seed(seed)
    return Toy(loss_of, **options).double().train()


def ausam(model, **options):
    """AUSAM that selects from its second step on, and does not step."""
    return wrap(model, lr=0., weight_decay=0., momentum=0., **{
        **dict(type='AUSAM', rho=1e-8, warmup_iters=1, ramp_iters=0, seed=0),
        **options})


INVERSE = dict(sampling='systematic', weighting='inverse_probability')


def batch(seed=0, size=SIZE, first=0, kind='class', identical=False):
    """A batch of labels of a kind: 'class', 'multi' or 'vector'."""
    generator = torch.Generator().manual_seed(seed)
    num = 1 if identical else size
    inputs = torch.randn(num, FEATURES, generator=generator).double()
    labels = dict(
        multi=lambda: torch.randint(
            0, 2, (num, CLASSES), generator=generator).double(),
        vector=lambda: torch.randn(
            num, CLASSES, generator=generator).double())
    labels['class'] = lambda: torch.randint(
        0, CLASSES, (num, ), generator=generator)
    labels = labels[kind]()
    if identical:
        inputs = inputs.repeat(size, 1)
        labels = labels.repeat(size, *[1] * (labels.ndim - 1))
    return dict(inputs=inputs, data_samples=[
        BaseDataElement(metainfo=dict(sample_idx=first + i), gt=labels[i])
        for i in range(size)])


def part(data, index):
    """The part of a batch."""
    return dict(inputs=data['inputs'][index], data_samples=[
        data['data_samples'][i] for i in index])


def total_of(model, data):
    """The model's total loss on a batch."""
    return model.parse_losses(model(**data, mode='loss'))[0]


def own_losses(model, data):
    """The model's total loss on each sample alone, shape (b, )."""
    return torch.stack([
        total_of(model, part(data, [i])).detach()
        for i in range(len(data['data_samples']))])


def gradient(loss, model):
    """A gradient as one vector; zeros where there is none."""
    grads = torch.autograd.grad(
        loss, list(model.parameters()), allow_unused=True)
    return torch.cat([
        (torch.zeros_like(p) if grad is None else grad).flatten()
        for p, grad in zip(model.parameters(), grads)])


def record(wrapper):
    """The list of steps, and of gradients that the optimizer is given."""
    steps, grads, observe = [], [], wrapper.observe
    wrapper.observe = lambda step: (steps.append(step), observe(step))
    wrapper.base.step = lambda **_: grads.append(torch.cat([
        (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
        for group in wrapper.param_groups for p in group['params']]))
    return steps, grads
