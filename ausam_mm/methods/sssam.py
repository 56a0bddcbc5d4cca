"""SS-SAM, or RST: a coin decides between SAM and the base's step."""

import math
from typing import Any

from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ..checks import is_number, require, require_choice
from ..engine import TwoPassOptimWrapper, common_seed, uniform


@OPTIM_WRAPPERS.register_module()
class SSSAM(TwoPassOptimWrapper):
    """SS-SAM or RST: SAM with a probability, the base optimizer's step else.

    Zhao et al., "SS-SAM: Stochastic Scheduled Sharpness-Aware Minimization for
    Efficiently Training Deep Neural Networks", 2022 (arXiv 2203.09962), in
    its later version Randomized Sharpness-Aware Training (RST).

    1. Of the step t of T: p(t) = p ('constant'),
       p + (p_end - p) * t / T ('linear'), or
       p + (p_end - p) * (1 - cos(pi * t / T)) / 2 ('trigonometric').
    2. With probability p(t) SAM, else one pass.

    Cost: 1 + the mean of p(t), in SGD steps.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        schedule (str): 'constant', 'linear' or 'trigonometric'. Defaults to
            'constant'.
        p (float): Probability of SAM, at the beginning where it changes; 0 is
            SGD. Defaults to None, for 0.5 with 'constant' and 0
            with the others.
        p_end (float): Probability at the end, where it changes. Defaults to
            1.
        seed (int, optional): Seed of the coins, which fall alike in all
            processes. Defaults to None, for PyTorch's current seed.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Example:
        >>> optim_wrapper = dict(
        ...     type='SSSAM', rho=0.05, schedule='linear',
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    saved = ('seed', )

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 schedule: str = 'constant', p: float | None = None,
                 p_end: float = 1., seed: int | None = None,
                 **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require_choice('schedule', schedule, 'constant', 'linear',
                       'trigonometric')
        if p is None:
            p = 0.5 if schedule == 'constant' else 0.
        for name, value in (('p', p), ('p_end', p_end)):
            require(
                is_number(value) and 0 <= value <= 1,
                f'{name}={value!r} is no probability: set it in [0, 1], for '
                'example 0.5.')
        self.schedule, self.p, self.p_end = schedule, p, p_end
        self.seed = common_seed(seed)

    def probability(self) -> float:
        """p(t), step 1 of the algorithm (see the class)."""
        if self.schedule == 'constant':
            return self.p
        ratio = self.progress()
        if self.schedule == 'trigonometric':
            ratio = (1 - math.cos(math.pi * ratio)) / 2
        return self.p + (self.p_end - self.p) * ratio

    def uses_two_passes(self) -> bool:
        """Step 2 of the algorithm: the coin of the optimizer's step."""
        return float(uniform(self.seed, self.num_updates)) < self.probability()
