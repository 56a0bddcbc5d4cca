"""bfloat16 on a CPU is what MMEngine's own wrapper does on a GPU."""

import pytest
import torch

from ausam_mm.hooks import CPUAmpHook

from ..runs import runner
from ..toy import ToyModel, batch

AMP = dict(type='CPUAmpOptimWrapper', dtype='bfloat16')
CASES = {
    'OptimWrapper': AMP,
    'SAM': dict(type='SAM', rho=0.2, base=AMP),
    'AUSAM': dict(type='AUSAM', rho=0.2, alpha=0.5, base=AMP),
}


def trained(folder, wrapper, **kwargs):
    torch.manual_seed(0)
    one = runner(folder, wrapper, model=ToyModel(norm=True), **kwargs)
    one.train()
    return one.model


@pytest.mark.parametrize('case', CASES)
def test_a_training_is_that_of_amp(case, tmp_path):
    plain = {key: value for key, value in CASES[case].items()
             if key not in ('base', 'dtype')}
    plain['type'] = case
    hooked = trained(tmp_path / 'hooked', plain,
                     custom_hooks=[dict(type='CPUAmpHook')])
    amp = trained(tmp_path / 'amp', CASES[case])
    without = trained(tmp_path / 'without', plain)
    weight = hooked.net[0].weight
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, without.net[0].weight)
    for name, value in amp.state_dict().items():
        assert torch.equal(hooked.state_dict()[name], value)


def test_it_ends_with_the_training(tmp_path):
    model = trained(tmp_path, dict(type='OptimWrapper'),
                    custom_hooks=[dict(type='CPUAmpHook')])
    assert model(batch()['inputs']).dtype == torch.float32


def test_a_gpu_has_mmengines_own(tmp_path):
    one = runner(tmp_path, dict(type='OptimWrapper'), model=ToyModel())
    one.model.to('meta')
    with pytest.raises(ValueError, match='on meta.*AmpOptimWrapper'):
        CPUAmpHook().before_train(one)
