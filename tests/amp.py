"""MMEngine's AmpOptimWrapper, made to run on a CPU."""

from contextlib import contextmanager

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module(force=True)
class CPUAmpOptimWrapper(AmpOptimWrapper):
    """Its own backward, step and state, with a scaler and autocast for CPU.

    Args:
        dtype (str): What autocast casts to.
        loss_scale (dict | float): Settings of the scaler, or its first scale.
    """

    def __init__(self, dtype='float16', loss_scale=None, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        if isinstance(loss_scale, float):
            loss_scale = dict(init_scale=loss_scale)
        self.loss_scaler = torch.amp.GradScaler('cpu', **(loss_scale or {}))
        self._scale_update_param = None
        self.cast_dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model):
        with OptimWrapper.optim_context(self, model), \
                torch.autocast('cpu', self.cast_dtype):
            yield
