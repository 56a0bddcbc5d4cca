"""Random-SAM: a random direction in the place of the gradient's."""

from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ..engine import Step, TwoPassOptimWrapper, common_seed, step_generator
from ..engine.distributed import is_fsdp


@OPTIM_WRAPPERS.register_module()
class RandomSAM(TwoPassOptimWrapper):
    """A control: one pass at weights moved in a random direction.

    What SAM gains over it at the same rho, it gains by the gradient's
    direction.

    Wen et al., "SmoothOut: Smoothing Out Sharp Minima to Improve
    Generalization in Deep Learning", 2018 (arXiv 1805.07898), whose noise is
    uniform instead of one on a sphere.

    1. eps = rho * v / ||v||, v standard normal.
    2. One pass at w + eps; step with its gradient at w.

    The norm is over all parameters. Cost: 1 SGD step.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        seed (int, optional): Seed of the directions. Defaults to None, for
            PyTorch's current seed.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        Each micro-batch and each process has a direction of its own, as
        SAM's have. With ``sync_perturbation=True`` all processes have that
        of the first; under FSDP they hold the parts of one in any case. It
        is not R-SAM (Liu et al., NeurIPS 2022), which has noise and SAM.

    Example:
        >>> optim_wrapper = dict(
        ...     type='RandomSAM', rho=0.05,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    saved = ('seed', )

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        self.seed = common_seed(seed)

    def uses_two_passes(self) -> bool:
        """Never: no gradient is needed for the direction."""
        return False

    def perturb_before_pass(self, step: Step) -> None:
        """Step 1 of the algorithm (see the class)."""
        # Under FSDP each process holds other parts of the direction.
        alike = self.sync_perturbation and not is_fsdp(step.model)
        device = step.params[0].device
        generator = step_generator(
            self.seed, 0 if alike else get_rank(), self.num_steps,
            device=device)
        step.perturb_along([
            torch.randn(p.shape, generator=generator, device=device).to(p)
            if p.requires_grad else None for p in step.params])
