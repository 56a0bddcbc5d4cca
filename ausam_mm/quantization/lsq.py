"""Learned step size quantisation of one tensor."""

import math
import warnings
from collections.abc import Sequence
from functools import cache

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from ..checks import require


class StepSize(nn.Parameter):
    """Step sizes, which stay positive and finite whatever updates them.

    An update that would make one zero, negative, infinite or NaN is refused:
    that element keeps its value. This is seen to right after every step of
    every ``torch.optim`` optimizer, before anything reads the parameters
    (EMA, checkpoints, the next forward pass), in place and without waiting
    for the device.

    Attributes:
        perturbed (bool): Whether SAM's climb moves it. It lies on the class,
            since copies of a parameter are made without its attributes.
    """

    perturbed = False

    def __new__(cls, data: Tensor, requires_grad: bool = True):
        """A step size, wherever it comes from, has its optimizer watched."""
        _guard_optimizers()
        return super().__new__(cls, data, requires_grad)

    def __reduce_ex__(self, protocol: int) -> tuple:
        return type(self), (self.data, self.requires_grad)

    def keep_valid(self, before: Tensor) -> None:
        """Takes back where the value is no step size.

        Args:
            before (Tensor): The value before the update, of the same shape.
        """
        _keep_valid([self], [before])


class PerturbedStepSize(StepSize):
    """Step sizes that SAM's climb moves, too."""

    perturbed = True


def bounds_of_step_size(dtype: torch.dtype) -> tuple[float, float]:
    """The smallest and the largest step size.

    The one is the smallest that divides without loss of precision; 255 times
    the other is still finite.

    Args:
        dtype (torch.dtype): The parameter's precision.

    Returns:
        tuple[float, float]: Both.
    """
    info = torch.finfo(dtype)
    return info.tiny, info.max / 256


def is_step_size(values: Tensor) -> Tensor:
    """Which values are possible step sizes.

    Args:
        values (Tensor): Any values.

    Returns:
        Tensor: The same shape, bool.
    """
    low, high = bounds_of_step_size(values.dtype)
    return (values >= low) & (values <= high)


@torch.no_grad()
def _keep_valid(steps: list[Tensor], before: list[Tensor]) -> None:
    groups: dict[tuple, list[int]] = {}
    for i, step in enumerate(steps):
        groups.setdefault((step.device, step.dtype), []).append(i)
    for members in groups.values():  # as one vector: a few kernels in all
        ours = [steps[i] for i in members]
        new = torch.cat([step.detach().flatten() for step in ours])
        old = torch.cat([before[i].flatten() for i in members])
        kept = torch.where(is_step_size(new), new, old)
        parts = kept.split([step.numel() for step in ours])
        torch._foreach_copy_(
            ours, [part.view_as(step) for part, step in zip(parts, ours)])


def _step_sizes(optimizer: Optimizer) -> list[StepSize]:
    return [p for group in optimizer.param_groups for p in group['params']
            if isinstance(p, StepSize)]


@cache
def _guard_optimizers() -> None:
    """Keeps step sizes valid in all optimizers of the process."""
    before: dict[int, list[Tensor]] = {}

    @_disable_dynamo
    def save(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        steps = _step_sizes(optimizer)
        if steps:
            before[id(optimizer)] = [step.detach().clone() for step in steps]

    @_disable_dynamo
    def check(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        steps = _step_sizes(optimizer)
        if steps:
            _keep_valid(steps, before.pop(id(optimizer)))

    register_optimizer_step_pre_hook(save)
    register_optimizer_step_post_hook(check)


class _FakeQuantize(torch.autograd.Function):
    """Rounds to multiples of the step size, with LSQ's gradients.

    All is computed in single precision at least, whatever autocast did to x.
    """

    @staticmethod
    def forward(ctx, x: Tensor, step: Tensor, low: int, high: int,
                scale: float) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.settings = low, high, scale
        ratio, step = _ratio(x, step)
        return ratio.round_().clamp_(low, high).mul_(step).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, step = ctx.saved_tensors
        low, high, scale = ctx.settings
        ratio, _ = _ratio(x, step)
        inside = (ratio > low) & (ratio < high)
        of_x = of_step = None
        if ctx.needs_input_grad[0]:
            of_x = torch.where(inside, grad, 0).to(x.dtype)
        if ctx.needs_input_grad[1]:
            # Not the difference outside, which may be inf - inf.
            codes = ratio.round().clamp_(low, high)
            slope = torch.where(inside, codes - ratio, codes)
            of_step = (slope * grad.to(slope.dtype)).sum_to_size(step.shape)
            of_step = (of_step * scale).to(step.dtype)
        return of_x, of_step, None, None, None


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
    """Quantises a tensor to a few bits with a learned step size.

    Esser et al., "Learned Step Size Quantization", ICLR 2020
    (arXiv 1902.08153). For a tensor x and a step size s:

    - forwards (eq. 1, 2): round(clip(x / s, -Q_n, Q_p)) * s, with integers
      from -2^(b-1) to 2^(b-1) - 1, or from 0 to 2^b - 1 if unsigned;
    - gradient for x (eq. 5): handed through where -Q_n < x / s < Q_p;
    - gradient for s (eq. 3): round(x / s) - x / s there, -Q_n and Q_p
      outside, times 1 / sqrt(N * Q_p), N being the number of weights that
      share the step size, or of an activation's features in one sample;
    - at first, s = 2 * mean|x| / sqrt(Q_p).

    The first forward pass in training mode initialises the step size, so
    after a checkpoint was loaded: one with step sizes brings its own, one of
    a float model leaves that to the first batch. Until then, in eval mode,
    the tensor passes through unchanged and a warning says so. (Frozen layers,
    whose step sizes do not require a gradient, never see training mode and
    are initialised by their first pass in any.) A tensor that does not tell
    its size, being all zeros or not finite, counts as one of mean size 1, if
    a weight 1 / sqrt(fan-in). Processes initialise activations from all
    their data.

    Args:
        bits (int): Bits of a value, 2 to 8.
        signed (bool, optional): Whether values may be negative. Defaults to
            None: decided by the first data, and kept in the checkpoint.
        step_shape (Sequence[int]): Shape of the step sizes, which broadcasts
            to the tensor: one for each channel, say. Defaults to () for one.
        activation (bool): Whether the tensor is an activation of shape
            (b, ...) instead of a weight. Defaults to False.
        perturbed (bool): Whether SAM's climb moves the step sizes. Defaults
            to False.

    Raises:
        ValueError: For bits out of range.
    """

    def __init__(self, bits: int, signed: bool | None = None,
                 step_shape: Sequence[int] = (), activation: bool = False,
                 perturbed: bool = False) -> None:
        super().__init__()
        require(
            isinstance(bits, int) and not isinstance(bits, bool)
            and 2 <= bits <= 8,
            f'bits={bits!r} cannot be quantised to: choose 2 to 8 bits.')
        self.bits = bits
        self.activation = activation
        kind = PerturbedStepSize if perturbed else StepSize
        self.step = kind(torch.ones(tuple(step_shape)))
        # Not bool, which averages and collectives know less of.
        self.register_buffer('initialised', torch.zeros((), dtype=torch.uint8))
        self.register_buffer(
            'is_signed', torch.tensor(bool(signed), dtype=torch.uint8))
        self._decides_sign = signed is None
        # What the buffers say, without waiting for a device.
        self._ready = False
        self._signed = bool(signed)

    @property
    def ready(self) -> bool:
        """Whether the step size is initialised."""
        if not self._ready and bool(self.initialised):
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
        """Quantises a tensor.

        Args:
            x (Tensor): Any shape to which the step sizes broadcast.

        Returns:
            Tensor: The same shape and precision.
        """
        if not self._ready and not self._initialise(x):
            return x
        low, high = _bounds(self.bits, self._signed)
        sharing = x.shape[1:].numel() if self.activation else (
            x.numel() // self.step.numel())
        return _FakeQuantize.apply(x, self.step, low, high,
                                   1 / math.sqrt(max(1, sharing) * high))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """The integers that stand for a tensor.

        Args:
            x (Tensor): As in :meth:`forward`.

        Returns:
            Tensor: The same shape, in at least single precision.
        """
        return _ratio(x, self.step)[0].round_().clamp_(*self.bounds)

    @_disable_dynamo
    @torch.no_grad()
    def _initialise(self, x: Tensor) -> bool:
        """Whether there is a step size, which the data may now give."""
        if self.ready:
            return True
        if not self.training and self.step.requires_grad:
            warnings.warn(
                'A quantiser without step size leaves its tensor in float: '
                'load a checkpoint of the quantised model, or run a batch in '
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
        self.step.copy_(step.clamp(*bounds_of_step_size(self.step.dtype)))
        self.initialised.fill_(1)
        return self.ready

    @torch.no_grad()
    def initialise_with(self, step: Tensor, signed: bool) -> None:
        """Sets known step sizes.

        Args:
            step (Tensor): The step sizes.
            signed (bool): Whether values may be negative.
        """
        self.step.copy_(step)
        self.is_signed.fill_(signed)
        self.initialised.fill_(1)
        self._ready = False

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        if f'{prefix}step' not in state_dict:
            return  # a float model's: nothing is missing
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._ready = False
        if not bool(is_step_size(self.step).all()):
            self.initialised.fill_(0)

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
