"""Parts of a gradient that are orthogonal to another one."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..checks import is_number, require
from ..engine import ParamState, Step, gradients, vector_dot, vector_norm


def orthogonal_to(given: list[Tensor], vector: list[Tensor],
                  group: dist.ProcessGroup | None) -> list[Tensor]:
    """The part of a vector that is orthogonal to a given one.

    Args:
        given (list[Tensor]): The parts of the given vector, all of them
            taken as one.
        vector (list[Tensor]): The parts of the other.
        group (ProcessGroup, optional): The processes that hold the other
            parts of them.

    Returns:
        list[Tensor]: Its parts; of a given zero the vector itself.
    """
    norm = vector_norm(given, group)
    along = vector_dot(vector, given, group) / norm**2
    along = torch.where(norm == 0, 0, along)
    return [v - along.to(v) * g for v, g in zip(vector, given)]


class OrthogonalPart:
    """What LookSAM and AE-LookSAM reuse of SAM's gradient.

    It is the part g_v that is orthogonal to the gradient at w. Only its
    direction is reused, so it is kept with length 1.

    Args:
        alpha (float): Length of what is reused, relative to the gradient.

    Raises:
        ValueError: If ``alpha`` is negative.
    """

    def __init__(self, alpha: float) -> None:
        require(
            is_number(alpha) and alpha >= 0, f'alpha={alpha!r} must not be '
            'negative: the published one is 0.7.')
        self.alpha = alpha
        self.state = ParamState('orthogonal_part')

    def refine(self, step: Step, params: list[nn.Parameter],
               first: list[Tensor] | None) -> None:
        """Learns g_v from SAM's gradient, or adds it to the one at w.

        Args:
            step (Step): The step.
            params (list[nn.Parameter]): Parameters with the gradient.
            first (list[Tensor], optional): The gradient at w, if the step
                was a SAM step.
        """
        if first is not None:
            self.learn(params, first, step.group)
        else:
            self.add(params, step.group)

    def learn(self, params: list[nn.Parameter], first: list[Tensor],
              group: dist.ProcessGroup | None) -> None:
        """g_v = g_s - (g_s g / ||g||) g / ||g||, all parameters as one."""
        parts = orthogonal_to(first, gradients(params), group)
        length = vector_norm(parts, group)
        valid = length.isfinite() & (length > 0)
        self.state.keep(params, [v / length.to(v) for v in parts], valid)

    def add(self, params: list[nn.Parameter],
            group: dist.ProcessGroup | None) -> None:
        """Makes the gradient g + alpha * ||g|| * g_v / ||g_v||."""
        grads = gradients(params)
        length = self.alpha * vector_norm(grads, group)
        for grad, part in zip(grads, self.state.of(params)):
            grad.add_(part * length.to(part))
