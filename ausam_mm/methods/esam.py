"""ESAM: SAM that perturbs some weights and steps on some samples."""

from typing import Any

import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import is_number, require
from ..engine import Step, TwoPassOptimWrapper, common_seed, uniform
from ..sampling import num_selected


@OPTIM_WRAPPERS.register_module()
class ESAM(TwoPassOptimWrapper):
    """Efficient SAM: stochastic weight perturbation and data selection.

    Du et al., "Efficient Sharpness-Aware Minimization for Improved Training of
    Neural Networks", ICLR 2022 (arXiv 2110.03141).

    1. Each parameter tensor is perturbed with probability beta; m is the mask.
    2. First pass on B: losses l_i(w), and the gradient g of those tensors.
    3. eps = rho / beta * (m g) / ||m g||
    4. Losses l_i(w + eps) of B, by a forward pass without gradient; S is the
       ratio gamma of B with the largest l_i(w + eps) - l_i(w).
    5. Second pass on S; step with its gradient at w + eps.

    Cost: 1 + 1/3 + gamma SGD steps, and less where tensors that
    stay need no gradient in the first pass: at most 1/3 * (1 - beta) less.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        beta (float): Probability with which a tensor is perturbed; 1 perturbs
            all. Defaults to 0.6.
        gamma (float): Ratio of the batch that the second pass sees; 1 leaves
            the scoring out. Defaults to 0.5.
        seed (int, optional): Seed of the masks. Defaults to None, for
            PyTorch's current seed.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        With ``beta=gamma=1`` it is SAM. Where PyTorch cannot compute some
        gradients only (FSDP, checkpointed activations: ``with_cp``), all are
        computed and those of the others dropped.

    Example:
        >>> optim_wrapper = dict(
        ...     type='ESAM', rho=0.05, beta=0.6, gamma=0.5,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    needs_losses = True
    scores_before: str | None = 'second'
    saved = ('seed', )

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 beta: float = 0.6, gamma: float = 0.5,
                 seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        for name, ratio, published in (('beta', beta, 0.6),
                                       ('gamma', gamma, 0.5)):
            require(
                is_number(ratio) and 0 < ratio <= 1,
                f'{name}={ratio!r} is no ratio in (0, 1]: the published one '
                f'is {published}, and 1 leaves it out.')
        self.beta, self.gamma = beta, gamma
        self.radius_factor = 1 / beta
        self.seed = common_seed(seed)
        if gamma == 1:  # every sample, whatever its loss
            self.needs_losses, self.scores_before = False, None

    def params_to_perturb(self, step: Step) -> list[nn.Parameter]:
        """Step 1 of the algorithm (see the class)."""
        trained = [p for p in step.params if p.requires_grad]
        mask = uniform(self.seed, self.num_steps, len(trained)) < self.beta
        if not mask.any():  # there is no perturbation without a direction
            mask[self.num_steps % len(trained)] = True
        return [p for p, perturbed in zip(trained, mask) if perturbed]

    def select_by_loss(self, step: Step, losses: Tensor) -> Tensor:
        """Step 4 of the algorithm: those whose loss rose most."""
        num = num_selected(
            self.gamma, step.selection.size, self.least_samples)
        rise = losses - step.first.losses
        return torch.topk(rise, num).indices.sort().values.cpu()
