"""Two gloo processes agree on a quantized model."""

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel

from ausam_mm.quantization import LSQuantizer

from ..processes import launch
from ..toy import batch, wrap
from .models import toy


def training():
    rank = dist.get_rank()
    # One of them alone sees negative numbers, and all zeros come to another.
    sign, zeros = LSQuantizer(4, activation=True), LSQuantizer(
        4, activation=True)
    sign(torch.tensor([[1., -3.]]) if rank else torch.tensor([[2., 2.]]))
    zeros(torch.full((2, 2), float(rank)))
    result = dict(sign=sign.state_dict(), zeros=zeros.state_dict())
    for name, options in dict(
            plain=dict(type='OptimWrapper'),
            ausam=dict(type='AUSAM', rho=0.3, alpha=0.5,
                       warmup_iters=1)).items():
        model = toy()
        outer = MMDistributedDataParallel(model)
        wrapper = wrap(model, **options)
        states = []
        for step in range(4):
            outer.train_step(batch(100 * rank + step, first_index=16 * rank),
                             wrapper)
            states.append({key: value.clone()
                           for key, value in model.state_dict().items()})
        result[name] = states
    return result


@pytest.fixture(scope='module')
def results():
    return launch(training, 2)


def test_processes_initialize_from_all_their_data(results):
    for result in results:
        assert result['sign']['is_signed'] == 1
        assert result['sign']['step'].item() == pytest.approx(
            2 * 2. / 7**0.5)
        assert result['zeros']['step'].item() == pytest.approx(
            2 * 0.5 / 15**0.5)


@pytest.mark.parametrize('name', ['plain', 'ausam'])
def test_parameters_stay_alike(results, name):
    for mine, theirs in zip(*(result[name] for result in results)):
        for key, value in mine.items():
            if 'running' not in key:  # each process's own, as without LSQ
                assert torch.equal(value, theirs[key]), key
    first, last = results[0][name][0], results[0][name][-1]
    assert not torch.equal(first['net.0.weight_quantizer.step'],
                           last['net.0.weight_quantizer.step'])
