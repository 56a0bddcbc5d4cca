"""Channels last changes the layout and nothing else."""

import pytest
import torch
from torch import nn

from ausam_mm import checkpoint_loading

from ..runs import runner
from ..toy import ToyModel

HOOK = [dict(type='ChannelsLastHook')]


def convolutions():
    torch.manual_seed(0)
    model = ToyModel()
    model.net = nn.Sequential(
        nn.Unflatten(1, (3, 2, 1)), nn.Conv2d(3, 4, (2, 1)), nn.ReLU(),
        nn.Flatten(), nn.Linear(4, 3))
    return model.double()


def trained(folder, wrapper, **kwargs):
    one = runner(folder, wrapper, model=convolutions(), **kwargs)
    one.train()
    return one


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'SAM', 'AUSAM'])
def test_a_training_is_the_same_in_channels_last(wrapper, tmp_path):
    wrapper = dict(type=wrapper)
    plain = trained(tmp_path / 'plain', wrapper)
    hooked = trained(tmp_path / 'hooked', wrapper, custom_hooks=HOOK)
    weight = hooked.model.net[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    state = hooked.model.state_dict()
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(state[name], value)


def test_it_resumes(tmp_path):
    wrapper = dict(type='AUSAM')
    whole = trained(tmp_path / 'whole', wrapper, custom_hooks=HOOK, exact=True)
    trained(tmp_path / 'part', wrapper, custom_hooks=HOOK, exact=True,
            length=2)
    with checkpoint_loading():
        part = trained(tmp_path / 'part', wrapper, custom_hooks=HOOK,
                       exact=True, resume=True)
    assert part.iter == whole.iter
    state = part.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(state[name], value)
