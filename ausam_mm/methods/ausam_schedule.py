"""AUSAM's warm-up and ramp: how selective it is, from begin to end."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from mmengine.logging import MessageHub

from ..checks import is_number, require
from ..sampling import counts_epochs

# How much of the training is over, in 'epochs' or 'iters'.
Passed = Callable[[str], float]


@dataclass(frozen=True)
class Schedule:
    """The epochs or iterations of the warm-up and of the ramp.

    Args:
        s_min (float): Lowest relative probability.
        s_max (float): Highest relative probability, after the ramp.
        warmup_epochs (int): Epochs in which everything is used.
        ramp_epochs (int): Epochs over which s_max(t) rises.
        warmup_iters (int, optional): The warm-up in iterations instead.
        ramp_iters (int, optional): The ramp in iterations instead.
        ramps (bool): Whether the ramp matters. Defaults to True.

    Raises:
        ValueError: For values out of range.
    """
    s_min: float
    s_max: float
    warmup_epochs: int
    ramp_epochs: int
    warmup_iters: int | None = None
    ramp_iters: int | None = None
    ramps: bool = True

    def __post_init__(self) -> None:
        require(
            is_number(self.s_min) and is_number(self.s_max)
            and 0 < self.s_min <= self.s_max <= 1,
            f's_min={self.s_min!r} and s_max={self.s_max!r} must be '
            'probabilities with 0 < s_min <= s_max <= 1: the published ones '
            'are 0.1 and 0.5.')
        for name in ('warmup_epochs', 'ramp_epochs', 'warmup_iters',
                     'ramp_iters'):
            value = getattr(self, name)
            require(
                value is None or is_number(value) and value >= 0,
                f'{name}={value!r} must not be negative: set 0 to do without.')

    @property
    def warmup(self) -> tuple[float, str]:
        """Length and unit of the warm-up."""
        if self.warmup_iters is not None:
            return self.warmup_iters, 'iters'
        return self.warmup_epochs, 'epochs'

    @property
    def ramp(self) -> tuple[float, str]:
        """Length and unit of the ramp."""
        if self.ramp_iters is not None:
            return self.ramp_iters, 'iters'
        return self.ramp_epochs, 'epochs'

    def in_warmup(self, passed: Passed) -> bool:
        """Whether everything is used."""
        length, unit = self.warmup
        return passed(unit) < length

    def s_max_now(self, passed: Passed) -> float:
        """s_max(t): linear from s_min to s_max over the ramp."""
        length, unit = self.ramp
        done = passed(unit)
        return self._s_max_at(min(1., done / length) if length else 1.)

    def _s_max_at(self, ratio: float) -> float:
        return self.s_min + (self.s_max - self.s_min) * ratio

    # -- what the log says of it --

    def plan(self) -> str:
        """The warm-up and the ramp in words."""
        plan = f'a warm-up of {_count(*self.warmup)} on full batches'
        if self.ramps:
            plan += (f', s_max rising from {self.s_min:g} to {self.s_max:g} '
                     f'over {_count(*self.ramp)}')
        return plan

    def cautions(self, method: str, hub: MessageHub) -> list[str]:
        """Warnings of a warm-up or ramp that is longer than the training.

        Args:
            method (str): The name of the method.
            hub (MessageHub): What says how long the training is.
        """
        found = []
        length, unit = self.warmup
        total = _length_of_training(hub, unit)
        if length >= total:
            found.append(
                f'warmup_{unit}={length:g} lasts as long as the training of '
                f'{_count(total, unit)}, so that {method} trains on full '
                f'batches as SAM does: set warmup_{unit}=0 or train longer.')
        length, unit = self.ramp
        total = _length_of_training(hub, unit)
        if self.ramps and length > total:
            reached = self._s_max_at((total - 1) / length)
            found.append(
                f'ramp_{unit}={length:g} is longer than the training of '
                f'{_count(total, unit)}: s_max ends at {reached:.2g} instead '
                f'of {self.s_max:g}. Set ramp_{unit}='
                f'{max(1, round(0.15 * total))}, the published part of a '
                'training (30 of 200 epochs).')
        return found


def _length_of_training(hub: MessageHub, unit: str) -> float:
    """Infinite where nothing tells it."""
    if unit == 'epochs' and not counts_epochs(hub):
        return math.inf
    return float(hub.get_info(f'max_{unit}', math.inf))


def _count(number: float, unit: str) -> str:
    """A length in words."""
    word = {'iters': 'iterations'}.get(unit, unit)
    return f'{number:g} {word if number != 1 else word[:-1]}'
