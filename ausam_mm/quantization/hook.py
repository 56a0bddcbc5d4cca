"""The guard of step sizes, by config."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .step_size import guard_step_sizes


@HOOKS.register_module()
class StepSizeHook(Hook):
    """Keeps the step sizes of a quantized model positive and finite.

    An update that would make one zero, negative, infinite or NaN is refused:
    see :func:`guard_step_sizes`.

    Example:
        >>> custom_hooks = [dict(type='StepSizeHook')]
    """

    def before_train(self, runner: Runner) -> None:
        """Guards the optimizer, or each of several, that will train.

        Not earlier, since a strategy may replace it.
        """
        wrapper: Any = runner.optim_wrapper
        several = isinstance(wrapper, OptimWrapperDict)
        for each in wrapper.values() if several else [wrapper]:
            guard_step_sizes(each.optimizer)
