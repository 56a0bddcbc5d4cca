"""AE-LookSAM: AE-SAM that reuses SAM's direction in between."""

from typing import Any

from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from ..engine import Step, TwoPassOptimWrapper
from .adaptive_policy import AdaptivePolicy
from .orthogonal_part import OrthogonalPart


@OPTIM_WRAPPERS.register_module()
class AELookSAM(TwoPassOptimWrapper):
    """AE-SAM that reuses SAM's new part in its other steps, as LookSAM does.

    Jiang et al., "An Adaptive Policy to Employ Sharpness-Aware Minimization",
    ICLR 2023 (arXiv 2304.14647), section on AE-LookSAM.

    1. As AE-SAM decides: SAM, and g_v is kept as in LookSAM.
    2. Else: step with g + alpha * ||g|| / ||g_v|| * g_v.

    Cost: as AE-SAM, and a tensor for each parameter.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        alpha (float): Length of the reused part, relative to the gradient.
            Defaults to 0.7.
        decay (float): See :class:`AESAM`. Defaults to 0.9.
        c_start (float): See :class:`AESAM`. Defaults to 1.
        c_end (float): See :class:`AESAM`. Defaults to -1.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        Accumulation and processes are as in :class:`AESAM` and
        :class:`LookSAM`.

    Example:
        >>> optim_wrapper = dict(
        ...     type='AELookSAM', rho=0.05, alpha=0.7,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    keeps_first_gradient = True

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 alpha: float = 0.7, decay: float = 0.9, c_start: float = 1.,
                 c_end: float = -1., **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        self.policy = AdaptivePolicy(decay, c_start, c_end)
        self.part = OrthogonalPart(alpha)
        self.param_states.append(self.part.state)

    def uses_two_passes(self) -> bool:
        """The first micro-batch of a step needs its gradient to decide."""
        return self.starts_update() or self.policy.takes_sam

    def needs_second_pass(self, step: Step) -> bool:
        """Step 1 of the algorithm (see the class)."""
        return self.policy.decide(step) if self.starts_update() \
            else self.policy.takes_sam

    def plan(self) -> str:
        """The base class's with alpha."""
        return f'{super().plan()}, alpha={self.part.alpha:g}'

    def refine(self, step: Step, params: list[nn.Parameter],
               first: list[Tensor] | None) -> None:
        """Learns g_v from SAM's gradient, or adds it to the one at w."""
        self.part.refine(step, params, first)

    def method_state(self) -> dict[str, Any]:
        """The base class's state with the policy's."""
        return dict(super().method_state(), **self.policy.state_dict())

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Takes up a state."""
        super().load_method_state(state)
        self.policy.load_state_dict(state)
