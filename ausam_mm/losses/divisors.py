"""The numbers by which a detector's head divides its losses.

They can be seen and replaced where they come from: in what ``get_targets``
returns, or in what ``reduce_mean`` is given, which averages over processes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Where the numbers come from.
TARGETS, MEANS = 'get_targets', 'reduce_mean'


class Divisors:
    """The numbers by which a head divides, in the order that it asks for them.

    Args:
        numbers (list[Tensor], optional): What takes the place of the head's
            own numbers. Defaults to None, for those.
        means (list[Tensor], optional): What takes the place of averages over
            processes. Defaults to None, for those.
        local (bool): Whether nothing is averaged over processes. Defaults to
            False.

    Attributes:
        own (list[Tensor]): The head's own numbers, of the images of its call.
        averages (list[Tensor]): What it got as averages over processes.
    """

    def __init__(self, numbers: list[Tensor] | None = None,
                 means: list[Tensor] | None = None,
                 local: bool = False) -> None:
        self.numbers = numbers
        self.means = means
        self.local = local
        self.own: list[Tensor] = []
        self.averages: list[Tensor] = []

    def as_given(self) -> Divisors:
        """Divides other images by what these were divided by."""
        return Divisors(self.numbers or self.own, self.averages)

    def number(self, own: Tensor) -> Tensor:
        """What the head gets for one of its own numbers."""
        self.own.append(own.detach().clone())
        if self.numbers is None:
            return own
        return self.numbers[len(self.own) - 1].to(own, copy=True)

    def mean(self, reduce: Callable[[Tensor], Tensor],
             value: Tensor) -> Tensor:
        """What the head gets for an average over processes."""
        if self.means is not None:
            value = self.means[len(self.averages)].to(value, copy=True)
        elif not self.local:
            value = reduce(value)
        # The head may change it in place.
        self.averages.append(value.detach().clone())
        return value

    @contextmanager
    def applied(self, head: Any, source: str) -> Iterator[None]:
        """A head divides by these numbers inside.

        Args:
            head (nn.Module): The head.
            source (str): Where its own numbers come from, 'get_targets' or
                'reduce_mean'.
        """
        # reduce_mean is a global of the modules in which a head's class and
        # its parents are written.
        scopes = [vars(sys.modules[cls.__module__])
                  for cls in type(head).__mro__]
        scopes = [scope for scope in scopes if 'reduce_mean' in scope]
        before = [scope['reduce_mean'] for scope in scopes]
        get_targets = head.get_targets

        def targets(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            return tuple(
                self.number(torch.tensor(float(each))).item()
                if isinstance(each, (int, float)) else each
                for each in get_targets(*args, **kwargs))

        def reduce_mean(value: Tensor) -> Tensor:
            if source == MEANS:
                value = self.number(value)
            return self.mean(before[0], value)

        try:
            for scope in scopes:
                scope['reduce_mean'] = reduce_mean
            if source == TARGETS:
                vars(head)['get_targets'] = targets
            yield
        finally:
            for scope, function in zip(scopes, before):
                scope['reduce_mean'] = function
            vars(head).pop('get_targets', None)
