"""The perturbation from w to w + eps, and the way back."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..internals import owns_memory
from .distributed import sum_over

# From here on a dot product is faster than torch's norm.
_LARGE = 2**17
_DOT = (torch.float32, torch.float64)


class Perturbation:
    """Moves the weights along the gradient and restores them bit for bit.

    SAM (Foret et al., ICLR 2021, eq. 2): eps = rho * g / ||g||, with the norm
    over all parameters. ASAM (Kwon et al., ICML 2021, eq. 6):
    eps = rho * T^2 g / ||T g|| with ``T = |w| + eta`` for each element.

    The weights are restored bit for bit, never by subtracting: w + eps is
    written into buffers that are kept, with which the parameters exchange
    their memory for a while. Where something else looks at that memory, or on
    a device, w is copied into the buffers and back.

    Args:
        adaptive (bool): Whether the radius of each weight scales with its
            size (ASAM). Defaults to False.
        eta (float): What ASAM adds to ``|w|``. Defaults to 0.01.
    """

    def __init__(self, adaptive: bool = False, eta: float = 0.01) -> None:
        self.adaptive = adaptive
        self.eta = eta
        self._buffers: dict[Tensor, Tensor] = {}
        # Of what has moved the memory that holds w; None for the buffer.
        self._moved: dict[Tensor, Tensor | None] = {}

    @torch.no_grad()
    def perturb(self, param_groups: list[dict[str, Any]],
                group: dist.ProcessGroup | None = None,
                factor: float = 1.) -> Tensor:
        """Moves the weights to w + eps, using up the gradients.

        Nothing here waits for the device.

        Args:
            param_groups (list[dict]): The optimizer's groups; ``rho`` of each
                is its radius. Parameters without a gradient stay, and those
                with ``perturbed = False`` (step sizes of a quantized model),
                which do not count in the norm either. What a parameter's
                ``keep_valid(before)`` refuses is taken back.
            group (ProcessGroup, optional): The processes over which each
                parameter is sharded. Defaults to None: each holds all.
            factor (float): What every radius is multiplied with. Defaults
                to 1.

        Returns:
            Tensor: The norm of the gradient (ASAM: of T g), shape (). Where
            it is zero or not finite, the weights have not moved.
        """
        moved = [[p for p in members['params'] if p.grad is not None
                  and getattr(p, 'perturbed', True)]
                 for members in param_groups]
        params = [p for members in moved for p in members]
        grads = [p.grad for p in params]
        if self.adaptive and params:
            sizes = torch._foreach_abs(params)
            torch._foreach_add_(sizes, self.eta)
            torch._foreach_mul_(grads, sizes)
        norm = vector_norm(grads, group)
        if self.adaptive and params:
            torch._foreach_mul_(grads, sizes)

        can_move = (norm > 0) & norm.isfinite()
        at_hand = self._is_at_hand(norm)
        if at_hand and not can_move:
            return norm
        self._provide_buffers(params)
        for members, settings in zip(moved, param_groups):
            if not members:
                continue
            steps = [p.grad for p in members]
            scale = torch.where(can_move, factor * settings['rho'] / norm, 0)
            if at_hand:
                alpha = scale.item()
                # One after the other, while it is in the cache; the last
                # ones first, whose gradients the norm has just read.
                for p, step in reversed([*zip(members, steps)]):
                    buffer = self._buffers[p]
                    if group is None and owns_memory(p):
                        weight = p.data
                        torch.add(weight, step, alpha=alpha, out=buffer)
                        self._moved[p] = weight
                        p.data = buffer
                    else:
                        buffer.copy_(p)
                        self._moved[p] = None
                        p.add_(step, alpha=alpha)
            else:
                for step in steps:  # for 0 * inf is no step of length 0
                    step.nan_to_num_(0, 0, 0)
                torch._foreach_mul_(steps, scale)
                self._copy_and_add(members, steps)
        self._keep_valid(params)
        return norm

    @torch.no_grad()
    def move(self, params: list[nn.Parameter], steps: list[Tensor]) -> None:
        """Moves weights by steps of any length, until they are restored.

        Args:
            params (list[nn.Parameter]): The parameters. What ``keep_valid``
                of one refuses is taken back.
            steps (list[Tensor]): What is added to each of them.
        """
        self._provide_buffers(params)
        self._copy_and_add(params, steps)
        self._keep_valid(params)

    @torch.no_grad()
    def restore(self) -> None:
        """Moves the weights back to w; does nothing where none moved."""
        copied = [p for p, weight in self._moved.items() if weight is None]
        if copied:
            torch._foreach_copy_(copied, [self._buffers[p] for p in copied])
        for p, weight in self._moved.items():
            if weight is not None:
                p.data = weight
        self._moved = {}

    def _provide_buffers(self, params: list[nn.Parameter]) -> None:
        for p in params:
            if p not in self._buffers:
                self._buffers[p] = torch.empty_like(p, requires_grad=False)

    def _copy_and_add(self, params: list[nn.Parameter],
                      steps: list[Tensor]) -> None:
        """Copies w into the buffers, and moves the weights where they are."""
        weights: list[Tensor] = [*params]
        torch._foreach_copy_([self._buffers[p] for p in params], weights)
        self._moved.update(dict.fromkeys(params))
        torch._foreach_add_(weights, steps)

    def _keep_valid(self, params: list[nn.Parameter]) -> None:
        for p in params:
            if hasattr(p, 'keep_valid'):
                weight = self._moved[p]
                p.keep_valid(self._buffers[p] if weight is None else weight)

    @staticmethod
    def _is_at_hand(norm: Tensor) -> bool:
        """Whether Python can read the norm without waiting for a device."""
        return norm.is_cpu


def gradients(params: Iterable[nn.Parameter]) -> list[Tensor]:
    """The gradients of those parameters that have one."""
    return [p.grad for p in params if p.grad is not None]


@torch.no_grad()
def vector_norm(parts: list[Tensor],
                group: dist.ProcessGroup | None = None) -> Tensor:
    """The norm of a vector that lies in many tensors.

    Args:
        parts (list[Tensor]): Its parts.
        group (ProcessGroup, optional): The processes that hold the other
            parts. Defaults to None.

    Returns:
        Tensor: The norm in at least single precision, shape ().
    """
    # On a CPU a dot product reads a large part twice as fast as torch's norm.
    large: list[Tensor] = []
    small: list[Tensor] = []
    for part in parts:
        fits = part.numel() >= _LARGE and part.is_cpu and \
            part.is_contiguous() and part.dtype in _DOT
        (large if fits else small).append(part)
    norm = _joined([
        *(torch.dot(part.view(-1), part.view(-1)).sqrt() for part in large),
        *(torch._foreach_norm(small) if small else ())])
    if large and not norm.isfinite():  # its sum may overflow
        norm = _joined(list(torch._foreach_norm(parts)))
    return norm if group is None else sum_over(norm**2, group).sqrt()


def _joined(norms: list[Tensor]) -> Tensor:
    """The norm of a vector whose parts have these norms."""
    if not norms:
        return torch.zeros(())
    joined = torch.stack(norms)
    dtype = torch.promote_types(joined.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(joined.to(dtype))
    return norm


@torch.no_grad()
def vector_dot(ones: list[Tensor], others: list[Tensor],
               group: dist.ProcessGroup | None = None) -> Tensor:
    """The scalar product of two vectors that lie in many tensors.

    Args:
        ones (list[Tensor]): The parts of the one.
        others (list[Tensor]): The parts of the other.
        group (ProcessGroup, optional): The processes that hold the other
            parts of them. Defaults to None.

    Returns:
        Tensor: The product, shape ().
    """
    products = [(a * b).sum() for a, b in zip(ones, others)]
    product = torch.stack(products).sum() if products else torch.zeros(())
    return sum_over(product, group)
