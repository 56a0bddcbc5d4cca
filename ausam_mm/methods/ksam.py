"""K-SAM: SAM on the samples with the highest losses."""

from typing import Any

import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor
from torch.optim import Optimizer

from ..checks import require
from ..engine import Step, TwoPassOptimWrapper
from ..sampling import num_selected


@OPTIM_WRAPPERS.register_module()
class KSAM(TwoPassOptimWrapper):
    """SAM whose passes see the k samples of each batch with the highest loss.

    Ni et al., "K-SAM: Sharpness-Aware Minimization at the Speed of SGD", 2022
    (arXiv 2210.12864).

    1. The losses l_i(w) of the batch, by a forward pass without gradient.
    2. S is the k samples with the highest.
    3. SAM on S.

    Cost: 1/3 + 2 * k / b SGD steps, 1.33 with k = b/2.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        k (int, optional): Samples that the passes see; more than the batch
            has is all of it, and then it is SAM. Defaults to None, for half of
            each batch.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        BatchNorm's statistics move in the first pass, not in the scoring one:
        the network learns with those of the hard samples, and with those of
        all it was at chance on 2,000 images of CIFAR-10.

    Example:
        >>> optim_wrapper = dict(
        ...     type='KSAM', rho=0.05, k=64,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    needs_losses = True
    scores_before = 'first'

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 k: int | None = None, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            k is None or isinstance(k, int) and k >= 1,
            f'k={k!r} is no number of samples: set k >= 1, or None for half '
            'of each batch.')
        self.k = k

    def select_by_loss(self, step: Step, losses: Tensor) -> Tensor:
        """Step 2 of the algorithm (see the class)."""
        size = step.selection.size
        num = num_selected(0.5 if self.k is None else self.k / size, size,
                           self.least_samples)
        return torch.topk(losses, num).indices.sort().values.cpu()
