"""Settings of every test."""

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Sums over several threads may differ in their last bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope='session', autouse=True)
def no_pause():
    """Waits for nothing that takes seconds.

    MMEngine's loop of iterations sleeps before another pass, and PyTorch
    waits for workers whose batches nobody took.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.runner.loops.time',
                      SimpleNamespace(sleep=lambda seconds: None))
        patch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.2)
        yield


@pytest.fixture(autouse=True)
def checkpoints_go(request):
    """Leaves no checkpoints behind: together they are several GB.

    Their folders stay. MMEngine's visualizer is named by the second, and of
    two trainings in one second the later one writes into the first's folder.
    """
    folder = request.getfixturevalue('tmp_path') \
        if 'tmp_path' in request.fixturenames else None
    yield
    if folder is not None:
        for path in folder.rglob('*.pth'):
            path.unlink()
