"""Learned step size quantization of one tensor."""

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from ..checks import require
from ..internals import not_compiled, where_inside
from .step_size import (
    PerturbedStepSize,
    StepSize,
    is_step_size,
    step_size_range,
    warn_of_missing_guard,
)


class _FakeQuantize(torch.autograd.Function):
    """Rounds to multiples of the step size, with LSQ's gradients.

    All is computed in single precision at least, whatever autocast did to x.
    What is saved, x and the step size, is kept by others anyway. Second
    derivatives are those of a straight-through estimator: none, since the
    slopes of both gradients are constants.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, step: Tensor, low: int, high: int,
                scale: float) -> Tensor:
        ratio, step = _ratio(x, step)
        return ratio.round_().clamp_(low, high).mul_(step).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...],
                      output: Tensor) -> None:
        x, step, *ctx.settings = inputs
        ctx.save_for_backward(x, step)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, step = ctx.saved_tensors
        low, high, scale = ctx.settings
        with torch.no_grad():
            ratio, _ = _ratio(x, step)
        grad = grad.to(ratio.dtype)
        of_x = of_step = None
        if ctx.needs_input_grad[0]:
            of_x = where_inside(grad, ratio, low, high).to(x.dtype)
        if ctx.needs_input_grad[1]:
            if torch.is_grad_enabled():
                ratio = ratio.clone()  # of_x's own graph needs it
            with torch.no_grad():
                # Not the difference outside, which may be inf - inf.
                inside = where_inside(ratio, ratio, low, high)
                slope = ratio.round_().clamp_(low, high).sub_(inside)
            of_step = (slope * grad).sum_to_size(step.shape)
            of_step = (of_step * scale).to(step.dtype)
        return of_x, of_step, None, None, None


# torch reads the signature in each call; this way it is made only once, which
# saves a third of the time that small tensors take (torch 2.14).
_forward: Any = _FakeQuantize.forward
_forward.__signature__ = inspect.signature(_forward)


def _precision(x: Tensor, step: Tensor) -> torch.dtype:
    return torch.promote_types(
        torch.promote_types(x.dtype, step.dtype), torch.float32)


def _ratio(x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """x / s, and s, both in the precision to compute in."""
    # Both are cast: a tensor of shape () alone would not raise precision.
    dtype = _precision(x, step)
    step = step.to(dtype)
    return x.to(dtype) / step, step


class LSQuantizer(nn.Module):
    """Quantizes a tensor to a few bits with a learned step size.

    Esser et al., "Learned Step Size Quantization", ICLR 2020
    (arXiv 1902.08153). For a tensor x and a step size s:

    - forwards (eq. 1, 2): round(clip(x / s, -Q_n, Q_p)) * s, with integers
      from -2^(b-1) to 2^(b-1) - 1, or from 0 to 2^b - 1 if unsigned;
    - gradient for x (eq. 5): passed through where -Q_n < x / s < Q_p;
    - gradient for s (eq. 3): round(x / s) - x / s there, -Q_n and Q_p
      outside, times 1 / sqrt(N * Q_p), N being the number of weights that
      share the step size, or of an activation's features in one sample;
    - at first, s = 2 * mean|x| / sqrt(Q_p).

    The first forward pass in training mode initializes the step size, unless
    a checkpoint brought one. Until then, in eval mode, the tensor passes
    through unchanged, with a warning. (Frozen layers, whose step sizes do not
    require a gradient, are initialized by their first pass in any mode.) An
    all-zero or non-finite tensor counts as one of mean size 1, a weight as
    one of 1 / sqrt(fan-in). Processes initialize activations from all their
    data.

    Args:
        bits (int): Bits of a value, 2 to 8.
        signed (bool, optional): Whether values may be negative. Defaults to
            None: decided by the first data, and kept in the checkpoint.
        step_shape (Sequence[int]): Shape of the step sizes, which broadcasts
            to the tensor: one for each channel, say. Defaults to () for one.
        activation (bool): Whether the tensor is an activation of shape
            (b, ...) instead of a weight. Defaults to False.
        perturbed (bool): Whether SAM perturbs the step sizes. Defaults to
            False.

    Raises:
        ValueError: For bits out of range.
    """

    initialized: Tensor
    is_signed: Tensor

    def __init__(self, bits: int, signed: bool | None = None,
                 step_shape: Sequence[int] = (), activation: bool = False,
                 perturbed: bool = False) -> None:
        super().__init__()
        require(
            isinstance(bits, int) and not isinstance(bits, bool)
            and 2 <= bits <= 8,
            f'bits={bits!r} cannot be quantized to: choose 2 to 8 bits.')
        self.bits = bits
        self.activation = activation
        kind = PerturbedStepSize if perturbed else StepSize
        self.step = kind(torch.ones(tuple(step_shape)))
        # Not bool, which averages and collectives know less of.
        self.register_buffer('initialized', torch.zeros((), dtype=torch.uint8))
        self.register_buffer(
            'is_signed', torch.tensor(bool(signed), dtype=torch.uint8))
        self._decides_sign = signed is None
        # What the buffers say, without waiting for a device.
        self._ready = False
        self._signed = bool(signed)

    @property
    def ready(self) -> bool:
        """Whether the step size is initialized."""
        if not self._ready and bool(self.initialized):
            self._signed = bool(self.is_signed)
            self._ready = True
        return self._ready

    @property
    def signed(self) -> bool:
        """Whether values may be negative; known once :attr:`ready`."""
        return self._signed if self.ready else bool(self.is_signed)

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest integer, -Q_n and Q_p."""
        return _bounds(self.bits, self.signed)

    def forward(self, x: Tensor) -> Tensor:
        """Quantizes a tensor.

        Args:
            x (Tensor): Any shape to which the step sizes broadcast.
        """
        if not self._ready:
            if not self._initialize(x):
                return x
        elif self.training and torch.is_grad_enabled() and \
                self.step.requires_grad and \
                getattr(self.step, 'asks_for_guard', False):
            # A tensor in its place, of functional_call, is not trained.
            warn_of_missing_guard()
        low, high = _bounds(self.bits, self._signed)
        sharing = x.shape[1:].numel() if self.activation else (
            x.numel() // self.step.numel())
        output: Tensor = _FakeQuantize.apply(
            x, self.step, low, high, 1 / math.sqrt(max(1, sharing) * high))
        return output

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """The integers that stand for a tensor.

        Args:
            x (Tensor): As in :meth:`forward`.

        Returns:
            Tensor: The same shape, in at least single precision.
        """
        return _ratio(x, self.step)[0].round_().clamp_(*self.bounds)

    @not_compiled
    @torch.no_grad()
    def _initialize(self, x: Tensor) -> bool:
        """Whether there is a step size, which the data may now give."""
        if self.ready:
            return True
        if not self.training and self.step.requires_grad:
            warnings.warn(
                'A quantizer without step size leaves its tensor in float: '
                'load a checkpoint of the quantized model, or run a batch in '
                'training mode first.', stacklevel=3)
            return False
        if not x.numel():
            return False
        x = x.detach().to(_precision(x, self.step))
        largest = x.abs().max()
        largest = torch.where(largest == 0, torch.ones_like(largest), largest)
        # Divided first: the sum of large values may overflow.
        mean = (x.abs() / largest).sum_to_size(self.step.shape) / (
            x.numel() // self.step.numel())
        # From here on a few numbers, in a precision that holds any size.
        mean = mean.cpu().double() * largest.cpu().double()
        negative = (x < 0).any().cpu().double()
        default = x[0].numel()**-0.5
        if self.activation:
            mean, negative = _over_processes(mean, negative)
            default = 1.
        known = mean.isfinite() & (mean > 0)
        mean = torch.where(known, mean, default)
        if self._decides_sign:
            self.is_signed.fill_(bool(negative > 0))
        high = _bounds(self.bits, bool(self.is_signed))[1]
        step = 2 * mean / math.sqrt(high)
        self.step.copy_(step.clamp(*step_size_range(self.step.dtype)))
        self.initialized.fill_(1)
        return self.ready

    @torch.no_grad()
    def initialize_with(self, step: Tensor, signed: bool) -> None:
        """Sets known step sizes."""
        self.step.copy_(step)
        self.is_signed.fill_(signed)
        self.initialized.fill_(1)
        self._ready = False

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str,
                              *args: Any) -> None:
        # torch 2.14, which names every buffer that is missing.
        if f'{prefix}step' not in state_dict:
            return  # a float model's: nothing is missing
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._ready = False
        if not bool(is_step_size(self.step).all()):
            self.initialized.fill_(0)

    def extra_repr(self) -> str:
        """Bits and shape, for ``print(model)``."""
        return f'bits={self.bits}, step_shape={tuple(self.step.shape)}'


def _bounds(bits: int, signed: bool) -> tuple[int, int]:
    if signed:
        return -2**(bits - 1), 2**(bits - 1) - 1
    return 0, 2**bits - 1


def _over_processes(*values: Tensor) -> Tensor:
    """The means of some numbers over all processes."""
    joined = torch.stack([value.reshape(()) for value in values])
    all_reduce(joined, op='mean')
    return joined
