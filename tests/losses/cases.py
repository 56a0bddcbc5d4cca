"""What describes a head that is tried."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


def maps(head, feats: Tensor, samples: list) -> dict:
    """The call of most heads: a tuple of maps and the data samples."""
    return head.loss((feats, ), samples)


@dataclass
class Case:
    """A head that is tried.

    Args:
        head (dict): Its config.
        call (Callable): ``call(head, feats, samples)`` returns its losses.
        note (str): What of several variants this is.
        why_not (str, optional): Why it is not built here.
    """
    head: dict[str, Any]
    call: Callable | None = maps
    note: str = ''
    why_not: str | None = None

    @property
    def name(self) -> str:
        return self.head['type'] + (f', {self.note}' if self.note else '')


def left_out(why_not: str, *kinds: str) -> tuple[Case, ...]:
    """Heads that are only listed, with the reason."""
    return tuple(Case(dict(type=kind), why_not=why_not) for kind in kinds)
