"""What a pass says of its samples: its calls of loss modules, and its sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..internals import autocast_dtype
from .alone import ModuleState

F = TypeVar('F', bound=Callable[..., Any])

MEAN, SUM, NONE, COUNT = 'mean', 'sum', 'none', 'count'


@dataclass
class Reduction:
    """How the losses of the samples make a call of a loss module, and a model.

    Attributes:
        of_module (str): 'mean' or 'sum' of the samples' losses, 'none' for a
            module that returns a value for each sample, 'count' for a sum
            that is divided by a number which the labels tell.
        in_total (str): 'mean' or 'sum': what the model makes of them in its
            total loss.
        batched (list[bool]): Which arguments of the call, flattened, hold a
            slice for each sample.
        labels (dict[str, list | float], optional): Where in a batch of the
            data loader the labels are that tell by what the module divides,
            by their names, and numbers that tell it, too; None if they are
            not all there.
    """
    of_module: str
    in_total: str = MEAN
    batched: list[bool] = field(default_factory=list)
    labels: dict[str, list[str | int] | float] | None = None


@dataclass
class Term:
    """One call of a loss module in a pass over k samples.

    Attributes:
        key (str): Name of the module, with '#n' from its second call on.
        module (nn.Module): The module.
        call (tuple): Its arguments, positional and by name.
        num_samples (int): k.
        output (Tensor): What it returned, detached.
        state (ModuleState): What the module remembered before it.
        reduction (Reduction, optional): How it is reduced; None as long as no
            batch has shown it.
        returned (Tensor): What the model went on with, detached.
        losses (Tensor, optional): The losses of the samples, shape (k, ),
            detached; numerators for 'count', and None for 'none'.
        counts (Tensor, optional): What each sample adds to the number by
            which the module divides, shape (k, ).
        mean_count (Tensor, optional): The mean of the full batch's counts,
            shape ().
        expected (Tensor, optional): ``counts`` as the labels in the batch of
            the data loader tell them, for a part of a batch.
        weight (Tensor, optional): d total / d returned, times the factor of
            loss scaling and accumulation; None before the backward pass.
        autocast_dtype (torch.dtype, optional): What autocast cast to when it
            was called, which a model may turn on or off inside of its forward
            pass; None where it was off.
    """
    key: str
    module: nn.Module
    call: tuple[tuple[Any, ...], dict[str, Any]]
    num_samples: int
    output: Tensor
    state: ModuleState
    reduction: Reduction | None = None
    returned: Tensor = field(default_factory=lambda: torch.empty(0))
    losses: Tensor | None = None
    counts: Tensor | None = None
    mean_count: Tensor | None = None
    expected: Tensor | None = None
    weight: Tensor | None = None
    autocast_dtype: torch.dtype | None = field(init=False)

    def __post_init__(self) -> None:
        self.autocast_dtype = autocast_dtype(self.device)

    @property
    def device(self) -> str:
        """The kind of device that it ran on."""
        return self.output.device.type

    @property
    def name(self) -> str:
        """The name of the module in the model."""
        return self.key.split('#')[0]

    def in_its_precision(self, function: F) -> F:
        """A function that runs in the mixed precision of the call, or none.

        Not a context: of a with block an interrupt may leave out the end.
        """
        return cast(F, torch.autocast(
            self.device, self.autocast_dtype,
            self.autocast_dtype is not None)(function))

    @property
    def of_module(self) -> str:
        """How the module reduces, as far as its output tells."""
        if self.reduction is not None:
            return self.reduction.of_module
        return NONE if self.gives_vector else MEAN

    @property
    def gives_vector(self) -> bool:
        """Whether the module returned a value for each sample."""
        return self.output.ndim > 0 and \
            self.output.size(0) == self.num_samples

    def sums(self) -> Tensor:
        """What tells a reduction, shape (4, ), in double precision.

        The mean of the output, the sum of the samples' losses and of their
        sizes, and that of the counts.
        """
        none = self.output.new_zeros((), dtype=torch.float64)
        losses = none if self.losses is None else self.losses.double()
        counts = none if self.counts is None else self.counts.double()
        return torch.stack([
            self.output.double().mean(), losses.sum(), losses.abs().sum(),
            counts.sum().to(none)])

    def contributions(self, weight: Tensor) -> Tensor:
        """What each sample adds to the total loss, shape (k, ).

        Args:
            weight (Tensor): d total / d returned.
        """
        if self.of_module == NONE:
            return (weight * self.output).reshape(self.num_samples, -1).sum(1)
        assert self.losses is not None
        if self.of_module == SUM:
            return weight * self.losses
        if self.of_module == COUNT:
            assert self.mean_count is not None
            return weight * self.losses / (self.num_samples * self.mean_count)
        return weight * self.losses / self.num_samples


@dataclass
class PassRecord:
    """What a pass knows of its samples, and the losses it records.

    Attributes:
        num_samples (int): Samples that the pass sees, k.
        batch_size (int): Samples of the batch they were selected from, b.
        weights (Tensor, optional): Factor of each sample's loss, 1 / (b*pi),
            shape (k, ). None keeps the model's own batch loss.
        batch (Any): The batch of the data loader. Defaults to None.
        positions (Tensor, optional): Those of the samples in the batch, shape
            (k, ). Defaults to None, for all.
        aside (bool): Whether the pass is run for its losses alone, without a
            backward pass.
        to_judge (bool): Whether the samples' losses are not evaluated yet.
        terms (list[Term]): The calls of loss modules.
        total (Tensor, optional): The model's total loss, detached.
        factor (Tensor, optional): Of loss scaling and accumulation, shape ().
    """
    num_samples: int
    batch_size: int
    weights: Tensor | None = None
    batch: Any = None
    positions: Tensor | None = None
    aside: bool = False
    to_judge: bool = False
    terms: list[Term] = field(default_factory=list)
    total: Tensor | None = None
    factor: Tensor | None = None

    @property
    def losses(self) -> Tensor:
        """The losses of the samples, after the backward pass.

        That of a sample is the model's total loss on it alone: the calls of
        loss modules, weighted as the total weights them.

        Returns:
            Tensor: Shape (k, ), detached; empty if no loss module was called.
        """
        losses = torch.empty(0)
        for term, weight in self.weighted_terms():
            part = term.contributions(weight)
            if term.reduction is None or term.reduction.in_total == MEAN:
                part = part * self.num_samples
            losses = losses + part if len(losses) else part
        return losses

    def weighted_terms(self) -> list[tuple[Term, Tensor]]:
        """The terms that reach the total, with d total / d returned."""
        factor = 1. if self.factor is None else self.factor
        return [(term, term.weight / factor) for term in self.terms
                if term.weight is not None]

    def sums(self) -> Tensor:
        """What a pass must add up to, shape (1 + 5 * n, ).

        The total, and of each of n weighted terms what it adds to it and its
        :meth:`Term.sums`: to be read from a device at once.
        """
        assert self.total is not None
        parts = [self.total.double().reshape(1)]
        for term, weight in self.weighted_terms():
            parts += [(weight * term.returned).double().sum().reshape(1),
                      term.sums()]
        return torch.cat([part.to(parts[0].device) for part in parts])

    @property
    def names(self) -> str:
        """The names of the loss modules that were called."""
        return ', '.join(sorted({f'`{term.name}`' for term in self.terms}))

    def set_factor(self, gradient: Tensor) -> None:
        """Takes the gradient of a loss of which the total has the mean."""
        self.factor = gradient.sum()

    def next_key(self, name: str) -> str:
        """The key of the next call of a module, or of a part of its output."""
        calls = sum(term.key == name or term.key.startswith(f'{name}#')
                    for term in self.terms)
        return f'{name}#{calls + 1}' if calls else name



def mean_count(counts: Tensor) -> Tensor:
    """What a module divides by, for each sample; nothing counts as one.

    Args:
        counts (Tensor): Those of the samples of a full batch, shape (b, ).

    Returns:
        Tensor: Shape ().
    """
    total = counts.sum()
    return torch.where(total > 0, total, 1) / len(counts)
