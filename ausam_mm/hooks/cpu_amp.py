"""Mixed precision on a CPU."""

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn


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
        model = _inner(runner)
        device = next(model.parameters()).device.type
        if device != 'cpu':
            raise ValueError(
                f'The model is on {device}, and CPUAmpHook is for a CPU: take '
                'AmpOptimWrapper (tools/train.py --amp) in its place.')
        self.forward = model.forward
        # Entered anew in each forward pass: weights that are cached in
        # bfloat16 are gone before the second one.
        model.forward = torch.autocast('cpu', torch.bfloat16)(self.forward)

    def after_train(self, runner: Runner) -> None:
        _inner(runner).forward = self.forward


def _inner(runner: Runner) -> nn.Module:
    """The model that a model wrapper may hold."""
    model: nn.Module = runner.model
    return model.get_submodule('module') if is_model_wrapper(model) else model
