"""When AE-SAM and AE-LookSAM take a SAM step."""

import math
from typing import Any

from mmengine.dist import all_reduce

from ..checks import is_number, require
from ..engine import Step, TwoPassOptimWrapper, gradients, vector_norm


class AdaptivePolicy:
    """SAM where the gradient is long, compared to the last steps'.

    Steps 1 to 3 of :class:`AESAM`'s algorithm.

    Args:
        decay (float): Of the moving averages, which begin at 0.
        c_start (float): The threshold at the beginning, in standard
            deviations; -inf is SAM.
        c_end (float): The threshold at the end.

    Attributes:
        takes_sam (bool): What was decided for the optimizer's step.

    Raises:
        ValueError: For values out of range.
    """

    def __init__(self, decay: float = 0.9, c_start: float = 1.,
                 c_end: float = -1.) -> None:
        require(
            is_number(decay) and 0 <= decay < 1, f'decay={decay!r} must be in '
            '[0, 1): the published one is 0.9.')
        for name, value in (('c_start', c_start), ('c_end', c_end)):
            require(
                is_number(value) and not math.isnan(value),
                f'{name}={value!r} is no number of standard deviations: the '
                'published ones are c_start=1 and c_end=-1.')
        self.decay = decay
        self.c_start, self.c_end = c_start, c_end
        self.mean = self.variance = 0.
        self.takes_sam = False

    def decide(self, step: Step) -> bool:
        """Whether the optimizer's step is a SAM step, alike in all processes.

        Args:
            step (Step): Its first micro-batch, whose gradient decides.
        """
        norm = vector_norm(gradients(step.params), step.group)
        square = (norm / step.loss_scale)**2
        all_reduce(square, op='mean')
        self.takes_sam = self._is_long(
            float(square), self.threshold(step.method))
        return self.takes_sam

    def threshold(self, method: TwoPassOptimWrapper) -> float:
        """c(t), step 3 of the algorithm.

        Args:
            method (TwoPassOptimWrapper): Knows the progress of the training.
        """
        if self.c_start == self.c_end:
            return self.c_start
        return self.c_start + (self.c_end - self.c_start) * method.progress()

    def _is_long(self, square: float, threshold: float) -> bool:
        if not math.isfinite(square):  # an overflow, which the base skips
            return False
        keep, take = self.decay, 1 - self.decay
        self.mean = keep * self.mean + take * square
        self.variance = (
            keep * self.variance + take * (square - self.mean)**2)
        return threshold == -math.inf or (
            square >= self.mean + threshold * math.sqrt(self.variance))

    def state_dict(self) -> dict[str, float]:
        """The moving averages."""
        return dict(mean=self.mean, variance=self.variance)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the moving averages, as far as they are there."""
        self.mean = state.get('mean', self.mean)
        self.variance = state.get('variance', self.variance)
