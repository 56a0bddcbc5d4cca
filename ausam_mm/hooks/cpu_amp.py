"""Mixed precision on a CPU."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class CPUAmpHook(Hook):
    """Trains in bfloat16 on a CPU, with any optimizer wrapper.

    MMEngine's AmpOptimWrapper asks for a GPU. Convolutions and linear layers
    run in bfloat16, in validations during the training, too; weights,
    gradients and losses stay in float32. It is faster on CPUs with
    instructions for bfloat16 and slower on others.

    Raises:
        ValueError: If the model is not on a CPU.

    Example:
        >>> custom_hooks = [dict(type='CPUAmpHook')]
    """

    def before_train(self, runner: Runner) -> None:
        model: Any = runner.model
        self.model = model.module if is_model_wrapper(model) else model
        device = next(self.model.parameters()).device.type
        if device != 'cpu':
            raise ValueError(
                f'The model is on {device}, and CPUAmpHook is for a CPU: take '
                'AmpOptimWrapper (tools/train.py --amp) in its place.')
        self.forward = self.model.forward
        # Entered anew in each forward pass: weights that are cached in
        # bfloat16 are gone before the second one.
        self.model.forward = torch.autocast(
            'cpu', torch.bfloat16)(self.forward)

    def after_train(self, runner: Runner) -> None:
        self.model.forward = self.forward
