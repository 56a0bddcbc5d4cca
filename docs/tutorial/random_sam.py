"""Random-SAM: a random direction in the place of the gradient's."""

from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ausam_mm import TwoPassOptimWrapper
from ausam_mm.engine import Step, common_seed, step_generator


@OPTIM_WRAPPERS.register_module()
class MyRandomSAM(TwoPassOptimWrapper):
    """One pass at weights that are perturbed in a random direction.

    A control: what SAM gains over it, it gains by the gradient's direction.

    1. eps = rho * v / ||v||, v standard normal.
    2. One pass at w + eps; step with its gradient at w.

    Cost: 1 SGD step.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        seed (int, optional): Seed of the directions. Defaults to None, for
            PyTorch's current seed.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        Each micro-batch and each process has a direction of its own; under
        FSDP these are the parts of one.

    Example:
        >>> optim_wrapper = dict(
        ...     type='MyRandomSAM', rho=0.05,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    saved = ('seed', )

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        self.seed = common_seed(seed)

    def uses_two_passes(self) -> bool:
        """Never."""
        return False

    def perturb_before_pass(self, step: Step) -> None:
        """Step 1 of the algorithm (see the class)."""
        # Each process has its own direction, and under FSDP each shard.
        generator = step_generator(self.seed, get_rank(), self.num_steps)
        step.perturb_along([
            torch.randn(p.shape, generator=generator).to(p)
            if p.requires_grad else None for p in step.params])
