"""Composition with the wrapper that casts, scales, clips and steps.

MMEngine has a class for each precision. A method that decides what is run
would need a subclass of each; instead it holds one of them, its base.
"""

import copy
import difflib
import inspect
import math
from typing import Any

import torch
from mmengine.optim import (
    AmpOptimWrapper,
    ApexOptimWrapper,
    OptimWrapper,
    OptimWrapperDict,
)
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from ..internals import clips_by_norm
from ..undo import Undo
from .distributed import sum_over
from .perturbation import gradients, vector_norm


class ComposedOptimWrapper(OptimWrapper):
    """An OptimWrapper around another one, the ``base``.

    Whatever it does not have itself is the base's: the optimizer, the loss
    scaler, the message hub, the count of micro-batches.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        base (dict, optional): Config of a registered OptimWrapper, without
            optimizer. Defaults to None, for ``dict(type='OptimWrapper')``.
        accumulative_counts (int): Handed to the base. Defaults to 1.
        clip_grad (dict, optional): Handed to the base. Defaults to None.

    Raises:
        TypeError: If ``optimizer`` is not one, or ``base`` cannot be one.
        ValueError: If the base steps on copies of the weights.
    """

    def __init__(self,
                 optimizer: Optimizer,
                 base: dict[str, Any] | None = None,
                 accumulative_counts: int = 1,
                 clip_grad: dict[str, Any] | None = None) -> None:
        # Not super().__init__: what it sets up is the base's.
        self.undo = Undo()  # what a step changes for a while
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f'{name} wraps one torch optimizer, not a '
                f'{type(optimizer).__name__}: train all parts of the model '
                'with one optimizer, with paramwise_cfg for their settings.')
        if isinstance(base, (OptimWrapper, OptimWrapperDict)):
            raise TypeError(f'base of {name} must be a config such as '
                            "dict(type='OptimWrapper'), not a built "
                            f'{type(base).__name__}.')
        base = dict(base or {})
        base.setdefault('type', 'OptimWrapper')
        base.setdefault('accumulative_counts', accumulative_counts)
        base.setdefault('clip_grad', copy.copy(clip_grad))
        kind = base['type']
        if isinstance(kind, str):
            kind = OPTIM_WRAPPERS.get(kind) or kind
        if not inspect.isclass(kind) or not issubclass(
                kind, OptimWrapper) or issubclass(kind, ComposedOptimWrapper):
            raise TypeError(
                f"base=dict(type={base['type']!r}) cannot be the base of "
                f'{name}: set a registered wrapper of one pass with an '
                "optim_context, such as 'OptimWrapper' or 'AmpOptimWrapper'.")
        self.base = OPTIM_WRAPPERS.build(
            base, default_args=dict(optimizer=optimizer))
        if getattr(self.base, 'opt_level', 'O1') not in ('O0', 'O1'):
            raise ValueError(
                f'opt_level={self.base.opt_level!r} of apex steps on copies '
                f'of the weights, which {name} cannot move: set '
                "opt_level='O1'.")

    def __getattr__(self, name: str) -> Any:
        if name == 'base':
            raise AttributeError(name)
        return getattr(self.base, name)

    @property
    def optimizer(self) -> Optimizer:
        """The base's optimizer, which strategies may replace."""
        optimizer: Optimizer = self.base.optimizer
        return optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer) -> None:
        self.base.optimizer = optimizer

    @property
    def base_skips_overflow(self) -> bool:
        """Whether the base drops a step whose gradient is not finite."""
        scaler = getattr(self.base, 'loss_scaler', None)
        return scaler.is_enabled() if scaler else isinstance(
            self.base, ApexOptimWrapper)

    def loss_scale(self, like: Tensor) -> Tensor:
        """The factor of the base's loss scaling, 1 without.

        Returns:
            Tensor: Shape (), on the loss's device, in single precision at
            least.
        """
        one = torch.ones((), device=like.device, dtype=torch.promote_types(
            like.dtype, torch.float32))
        scaler = getattr(self.base, 'loss_scaler', None)
        return scaler.scale(one) if scaler else one

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """The base's backward pass, which counts the micro-batches."""
        self.base.backward(loss, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """The base's step; schedulers count the calls of this method."""
        self.base.step(**kwargs)

    def clip(self, params: list[nn.Parameter], grads: list[Tensor]) -> None:
        """Clips gradients in place, as the base does those it steps with.

        Args:
            params (list[nn.Parameter]): The parameters.
            grads (list[Tensor]): A gradient for each of them.
        """
        options = getattr(self.base, 'clip_grad_kwargs', None)
        if not options:
            return
        with self.undo.scope():
            for p, grad in zip(params, grads):
                self.undo.keep(setattr, p, 'grad', p.grad)
                p.grad = grad
            self.base.clip_func(params, **options)

    def step_if_finite(self, params: list[nn.Parameter],
                       group: ProcessGroup | None = None,
                       **kwargs: Any) -> bool:
        """Steps unless a gradient is not finite.

        Args:
            params (list[nn.Parameter]): The optimizer's parameters.
            group (ProcessGroup, optional): Processes that share the shards of
                each. Defaults to None.
            **kwargs: Arguments of ``optimizer.step``.

        Returns:
            bool: Whether it did.
        """
        if not clips_by_norm(self.base):
            finite = gradient_is_finite(params, group)
            if finite:
                self.step(**kwargs)
            return finite

        # The base computes the norm itself: the gradients are read once.
        def clip(params: list[nn.Parameter], **options: Any) -> float:
            norm = float(sum_over(clip_func(params, **options), group))
            if not math.isfinite(norm):
                raise _NotFiniteError
            return norm

        clip_func = self.base.clip_func
        with self.undo.scope():
            self.undo.replace(self.base, 'clip_func', clip)
            try:
                self.step(**kwargs)
            except _NotFiniteError:
                return False
        return True

    def step_if_scaler_does(self, **kwargs: Any) -> bool:
        """The step of a base that leaves out overflows itself.

        Returns:
            bool: Whether its loss scaler let the optimizer step.
        """
        if getattr(self.base, 'loss_scaler', None) is None:  # apex's
            self.step(**kwargs)
            return True
        optimizer, called = self.optimizer, []

        def step(*args: Any, **options: Any) -> Any:
            called.append(True)
            return optimizer_step(*args, **options)

        optimizer_step = optimizer.step
        with self.undo.scope():
            self.undo.replace(optimizer, 'step', step)
            self.step(**kwargs)
        return bool(called)

    def zero_grad(self, **kwargs: Any) -> None:
        """The base's zero_grad."""
        self.base.zero_grad(**kwargs)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The base's division of the loss by the accumulation."""
        scaled: Tensor = self.base.scale_loss(loss)
        return scaled

    def should_update(self) -> bool:
        """Whether the base steps after this micro-batch."""
        return bool(self.base.should_update())

    def should_sync(self) -> bool:
        """Whether the base synchronizes gradients in this micro-batch."""
        return bool(self.base.should_sync())

    def initialize_count_status(self, *args: Any, **kwargs: Any) -> None:
        """The base's count of micro-batches."""
        self.base.initialize_count_status(*args, **kwargs)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(base={self.base!r})'

    @classmethod
    def _unknown_option(cls, name: str) -> str:
        """A sentence about an option that no class of the method has."""
        known: list[str] = []
        for parent in cls.__mro__:
            if issubclass(parent, ComposedOptimWrapper):
                known += inspect.signature(parent.__init__).parameters
        known = sorted(set(known) - {'self', 'unknown', 'kwargs', 'optimizer'})
        close = difflib.get_close_matches(name, known, n=1)
        if name in inspect.signature(AmpOptimWrapper).parameters:
            remedy = f"set base=dict(type='AmpOptimWrapper', {name}=...), " \
                f'and _delete_=True where {name} is inherited.'
        elif close:
            remedy = f'did you mean {close[0]!r}?'
        else:
            remedy = f'it knows {", ".join(known)}.'
        return f'{cls.__name__} has no option {name!r}: {remedy}'


class _NotFiniteError(ArithmeticError):
    """The base optimizer's step has met a gradient that is not finite."""


def gradient_is_finite(params: list[nn.Parameter],
                       group: ProcessGroup | None = None) -> bool:
    """Whether all gradients are finite; the host waits for the answer.

    Args:
        params (list[nn.Parameter]): The optimizer's parameters.
        group (ProcessGroup, optional): Processes that share the shards of
            each. Defaults to None.
    """
    return math.isfinite(vector_norm(gradients(params), group))
