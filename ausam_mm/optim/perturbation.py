"""The climb from w to w + eps, and the way back."""

from typing import Dict, List

import torch
from torch import Tensor, nn


class Perturbation:
    """Moves the weights up the gradient and restores them bit for bit.

    SAM (Foret et al., ICLR 2021, eq. 2): eps = rho * g / ||g||, with the norm
    over all parameters. ASAM (Kwon et al., ICML 2021, eq. 6):
    eps = rho * T^2 g / ||T g|| with T = |w| + eta for each element.

    The weights are saved by copying into buffers that are kept, and restored
    by copying back in place, never by subtracting.

    Args:
        adaptive (bool): Whether the radius of each weight scales with its
            size (ASAM). Defaults to False.
        eta (float): What ASAM adds to \\|w\\|. Defaults to 0.01.
    """

    def __init__(self, adaptive: bool = False, eta: float = 0.01) -> None:
        self.adaptive = adaptive
        self.eta = eta
        self._buffers: Dict[nn.Parameter, Tensor] = {}
        self._moved: List[nn.Parameter] = []

    @torch.no_grad()
    def climb(self, param_groups: List[dict]) -> float:
        """Moves the weights to w + eps, using up the gradients.

        Args:
            param_groups (list[dict]): The optimizer's groups; ``rho`` of each
                is its radius. Parameters without a gradient stay.

        Returns:
            float: The norm of the gradient (ASAM: of T g). Where it is zero
            or not finite, the weights have not moved.
        """
        moved = [[p for p in group['params'] if p.grad is not None]
                 for group in param_groups]
        params = [p for group in moved for p in group]
        if not params:
            return 0.
        grads = [p.grad for p in params]
        if self.adaptive:
            sizes = torch._foreach_abs(params)
            torch._foreach_add_(sizes, self.eta)
            torch._foreach_mul_(grads, sizes)
        norm = self._norm(grads)
        if self.adaptive:
            torch._foreach_mul_(grads, sizes)

        if norm > 0 and norm < float('inf'):
            self._save(params)
            for group, members in zip(param_groups, moved):
                if members:
                    torch._foreach_add_(
                        members, [p.grad for p in members],
                        alpha=group['rho'] / norm)
        return norm

    @torch.no_grad()
    def restore(self) -> None:
        """Moves the weights back to w; does nothing where none moved."""
        if self._moved:
            torch._foreach_copy_(self._moved,
                                 [self._buffers[p] for p in self._moved])
            self._moved = []

    def _save(self, params: List[nn.Parameter]) -> None:
        for p in params:
            if p not in self._buffers:
                self._buffers[p] = torch.empty_like(p, requires_grad=False)
        torch._foreach_copy_([self._buffers[p] for p in params], params)
        self._moved = params

    @staticmethod
    def _norm(grads: List[Tensor]) -> float:
        norms = torch._foreach_norm(grads)
        # Parameters may lie on several devices and have several dtypes.
        first = norms[0]
        return float(
            torch.linalg.vector_norm(
                torch.stack([
                    norm.to(first.device, torch.promote_types(
                        first.dtype, torch.float32)) for norm in norms
                ])))
