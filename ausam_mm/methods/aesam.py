"""AE-SAM: SAM where the gradient is unusually long."""

from typing import Any

from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ..engine import Step, TwoPassOptimWrapper
from .adaptive_policy import AdaptivePolicy


@OPTIM_WRAPPERS.register_module()
class AESAM(TwoPassOptimWrapper):
    """SAM in those steps whose gradient is long, compared to the last ones.

    Jiang et al., "An Adaptive Policy to Employ Sharpness-Aware Minimization",
    ICLR 2023 (arXiv 2304.14647).

    1. First pass: g at w; x = ||g||^2.
    2. mu = decay * mu + (1 - decay) * x,
       var = decay * var + (1 - decay) * (x - mu)^2
    3. c(t) = c_start + (c_end - c_start) * t / T
    4. If x >= mu + c(t) * sqrt(var): perturbation and second pass, as SAM.
       Else: step with g.

    Cost: 1 + the ratio of SAM steps, about 1.5 SGD steps.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        decay (float): Of the moving averages, which begin at 0. Defaults to
            0.9.
        c_start (float): The threshold at the beginning, in standard
            deviations; -inf is SAM. Defaults to 1.
        c_end (float): The threshold at the end. Defaults to -1.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        With accumulation the first micro-batch decides for all. With many
        processes x is the mean over them, so that they decide alike.

    Example:
        >>> optim_wrapper = dict(
        ...     type='AESAM', rho=0.05,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 decay: float = 0.9, c_start: float = 1., c_end: float = -1.,
                 **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        self.policy = AdaptivePolicy(decay, c_start, c_end)

    def uses_two_passes(self) -> bool:
        """The first micro-batch of a step needs its gradient to decide."""
        return self.starts_update() or self.policy.takes_sam

    def needs_second_pass(self, step: Step) -> bool:
        """Steps 1 to 4 of the algorithm (see the class)."""
        return self.policy.decide(step) if self.starts_update() \
            else self.policy.takes_sam

    def method_state(self) -> dict[str, Any]:
        """The base class's state with the policy's."""
        return dict(super().method_state(), **self.policy.state_dict())

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Takes up a state."""
        super().load_method_state(state)
        self.policy.load_state_dict(state)
