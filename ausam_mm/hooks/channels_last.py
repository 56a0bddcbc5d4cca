"""Convolutions in the memory layout channels last."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Trains and validates with the convolutions' weights in channels last.

    Convolutions then return maps in that layout, so that nothing else is
    changed. It is for networks of depthwise convolutions on a CPU, and for
    mixed precision on a GPU. Losses differ in the last digits.

    Example:
        >>> custom_hooks = [dict(type='ChannelsLastHook')]
    """

    def before_train(self, runner: Runner) -> None:
        runner.model.to(memory_format=torch.channels_last)

    before_val = before_test = before_train
