"""The device of each test here: the CPU, and a GPU where there is one.

So the code that `make gpu` runs on a GPU (`-m gpu`) runs with the other tests
on a CPU as well.
"""

import pytest
import torch

GPU = pytest.param('cuda', marks=[
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(),
                       reason='PyTorch finds no GPU here.')])


@pytest.fixture(params=['cpu', GPU], scope='module')
def device(request):
    return request.param
