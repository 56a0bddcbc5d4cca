"""SAM: sharpness-aware minimization."""

from typing import Any

from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ..engine import TwoPassOptimWrapper


@OPTIM_WRAPPERS.register_module()
class SAM(TwoPassOptimWrapper):
    """Sharpness-Aware Minimization, and ASAM with ``adaptive=True``.

    Foret et al., "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", ICLR 2021 (arXiv 2010.01412); Kwon et al., "ASAM", ICML
    2021.

    1. g = gradient of the batch loss at w
    2. eps = rho * g / ||g||
    3. step with the gradient at w + eps

    Cost: 2 SGD steps. It needs no per-sample losses and works for every
    model.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation; published: 0.05 for CIFAR-10
            and 0.1 for CIFAR-100, with ``adaptive`` 0.5 to 2. Defaults to
            0.05.
        adaptive (bool): Whether the radius scales with each weight (ASAM).
            Defaults to False.
        eta (float): What ASAM adds to a weight's size. Defaults to 0.01.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Example:
        >>> optim_wrapper = dict(
        ...     type='SAM', rho=0.05,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 adaptive: bool = False, eta: float = 0.01,
                 **kwargs: Any) -> None:
        super().__init__(
            optimizer, rho=rho, adaptive=adaptive, eta=eta, **kwargs)
