"""What the tests on either device train with."""

import pytest
import torch

from .. import amp  # noqa: F401, registers the CPU's wrapper

METHODS = dict(
    SAM=dict(type='SAM', rho=0.3),
    AUSAM=dict(type='AUSAM', rho=0.3, alpha=0.5, warmup_iters=1, seed=0),
    pair=dict(type='AUSAM', rho=0.3, alpha=(0.25, 0.75), warmup_iters=1,
              seed=0))


def amp_base(device, dtype, **scaler):
    """MMEngine's wrapper with a real GradScaler, or its stand-in on a CPU."""
    if device == 'cuda' and dtype == 'bfloat16' and \
            not torch.cuda.is_bf16_supported():
        pytest.skip('This GPU has no bfloat16.')
    name = 'AmpOptimWrapper' if device == 'cuda' else 'CPUAmpOptimWrapper'
    return dict(type=name, dtype=dtype,
                loss_scale=dict(dict(init_scale=2.**10), **scaler))


def vector(model):
    """All weights of a model in one vector, on the CPU."""
    return torch.cat([p.detach().double().flatten().cpu()
                      for p in model.parameters()])


def record_selections(wrapper):
    """The list that a wrapper's selections are appended to from now on."""
    selections, select = [], wrapper.select

    def recorded(data):
        selections.append(select(data))
        return selections[-1]

    wrapper.select = recorded
    return selections
