"""What a forward pass changes: queues, teachers, counters, its own inputs.

A step runs the forward pass twice. Both passes must find this as it was
before the step, and the step must leave it as one pass does.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseAveragedModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..internals import flatten, version
from .capture import Call
from .distributed import is_fsdp

_OF_TORCH = {*vars(nn.Module()), '_compiled_call_impl'}
_INTERVAL = 500  # steps between two looks at everything
_CONTAINERS = (list, dict, set, deque)
_PRIMITIVES = (int, float, str)


@dataclass
class _Slot:
    """An attribute, buffer or frozen parameter of a module.

    Attributes:
        name (str): Its name in the model.
        owner (nn.Module): The module.
        key (str): Its name there.
        value (Any): What it was when the slot was saved.
        copied (Any): A copy of its content, if it can change in place.
        changes (int): How often the tensor had changed in place.
    """
    name: str
    owner: nn.Module
    key: str
    value: Any = None
    copied: Any = None
    changes: int = 0

    def save(self, content: bool) -> None:
        """Keeps the value, and its content."""
        self.value = getattr(self.owner, self.key, None)
        self.copied = None
        if isinstance(self.value, Tensor):
            self.changes = version(self.value)
            if content:
                self.copied = self.value.detach().clone()
        elif isinstance(self.value, _CONTAINERS):
            self.copied = copy.copy(self.value)

    @property
    def is_lost(self) -> bool:
        """Whether its content has changed, of which there is no copy."""
        return isinstance(self.value, Tensor) and self.copied is None \
            and version(self.value) != self.changes

    def has_changed(self) -> bool:
        """Whether it is another value, or has another content."""
        value = getattr(self.owner, self.key, None)
        if value is not self.value:
            return not (isinstance(value, _PRIMITIVES)
                        and type(value) is type(self.value)
                        and value == self.value)
        if isinstance(value, Tensor):
            if self.copied is None:
                return version(value) != self.changes
            return not torch.equal(value, self.copied)
        return isinstance(value, _CONTAINERS) and not _same_items(
            value, self.copied)

    def restore(self) -> None:
        """Gives it back the value and the content that were saved."""
        if isinstance(self.value, Tensor) and self.copied is not None:
            with torch.no_grad():
                self.value.copy_(self.copied)
        elif isinstance(self.value, list):
            self.value[:] = self.copied
        elif isinstance(self.value, deque):
            self.value.clear()
            self.value.extend(self.copied)
        elif isinstance(self.value, (dict, set)):
            self.value.clear()
            self.value.update(self.copied)
        if getattr(self.owner, self.key, None) is not self.value:
            setattr(self.owner, self.key, self.value)


class ForwardState:
    """Rewinds what the first pass has changed, for the second one.

    What changes is found out in the first two steps, and again at times, by
    comparing copies of everything that could. From then on these are copied
    alone, and a change of any other tensor is noticed by PyTorch's version
    counters. BatchNorm's statistics are not part of it (see
    :func:`frozen_statistics`), but for those of averaged models, into which
    their update copies others.

    Args:
        model (nn.Module): The model without its distributed wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.moving: set[str] = set()  # names of what is known to change
        self.call_moves = False  # whether the model changes its inputs
        self._slots: list[_Slot] = []
        # What the first pass has made of them, once they are rewound.
        self._made: list[_Slot] | None = None
        self._everything = False
        self._saves = 0

    @property
    def copies_call(self) -> bool:
        """Whether the first pass needs copies of its inputs."""
        return self._everything or self.call_moves

    def save(self, everything: bool = False) -> None:
        """Keeps what a forward pass may change.

        Args:
            everything (bool): Whether to copy all that could change, not
                only what is known to, also where it is not time for that.
                Defaults to False.
        """
        everything = everything or self._saves < 2 \
            or self._saves % _INTERVAL == 0
        self._saves += 1
        self._made = None
        if everything:
            self._slots = list(self._find())
        elif self._everything:
            self._slots = [
                slot for slot in self._slots if slot.name in self.moving
                or isinstance(slot.value, Tensor)]
        self._everything = everything
        for slot in self._slots:
            slot.save(everything or slot.name in self.moving)

    def reset(self) -> None:
        """Makes everything what it was, as if no pass had been."""
        for slot in self._changed():
            slot.restore()

    def rewind(self) -> list[str]:
        """Makes everything what it was, and keeps what the pass made of it.

        Returns:
            list[str]: Names of what has changed for the first time, so that
            there is no copy; if there is any, nothing is rewound.
        """
        changed = self._changed()
        self.moving.update(slot.name for slot in changed)
        lost = [slot.name for slot in changed if slot.is_lost]
        if lost:
            return lost
        made = []
        for slot in changed:
            made.append(_Slot(slot.name, slot.owner, slot.key))
            made[-1].save(content=True)
        self._made = made
        for slot in changed:
            slot.restore()
        return []

    def advance(self) -> None:
        """Makes everything what the first pass made of it, if rewound."""
        made, self._made = self._made, None
        if made is None:
            return
        for slot in made:
            slot.restore()
        done = {slot.name for slot in made}
        # Where the weights of a teacher were those of its student, the first
        # pass has changed nothing, and the second one did.
        others = [slot for slot in self._changed() if slot.name not in done]
        self.moving.update(slot.name for slot in others)
        for slot in others:
            slot.restore()

    def _changed(self) -> list[_Slot]:
        """What is known to change, or was seen to."""
        return [slot for slot in self._slots
                if (slot.name in self.moving and not self._everything)
                or slot.has_changed()]

    def _find(self) -> Iterator[_Slot]:
        """What a forward pass could change."""
        averaged: list[str] = []
        for prefix, module in self.model.named_modules():
            if is_fsdp(module) or isinstance(module, DistributedDataParallel):
                continue
            if isinstance(module, BaseAveragedModel):
                averaged.append(f'{prefix}.')
            is_averaged = any(f'{prefix}.'.startswith(name)
                              for name in averaged)
            for key in self._keys(module, is_averaged):
                name = f'{prefix}.{key}' if prefix else key
                if is_averaged:
                    self.moving.add(name)
                yield _Slot(name, module, key)

    def _keys(self, module: nn.Module, is_averaged: bool) -> Iterator[str]:
        has_statistics = getattr(module, 'running_mean', None) is not None
        if is_averaged or not has_statistics:
            for key, _ in module.named_buffers(recurse=False):
                yield key
        if not is_fsdp(self.model):  # which shards them in its passes
            for key, p in module.named_parameters(recurse=False):
                if not p.requires_grad:
                    yield key
        if not has_statistics:  # which are frozen by their attributes
            yield from vars(module).keys() - _OF_TORCH


class CallCopy:
    """The inputs of a forward pass, in containers of their own.

    Args:
        call (tuple): The arguments of the model, by position and by name.
        content (bool): Whether to copy the tensors and data samples, too.
    """

    def __init__(self, call: Call, content: bool) -> None:
        leaves, rebuild = flatten(call)
        if content:
            leaves = [self._copy(leaf) for leaf in leaves]
        self.call: Call = rebuild(leaves)
        # To look at the data samples of every step would cost too much.
        self._watched = [leaf for leaf in leaves
                         if content or isinstance(leaf, Tensor)]
        self._before = [self._look(leaf) for leaf in self._watched]

    def has_changed(self) -> bool:
        """Whether a pass has changed them in place."""
        return [self._look(leaf) for leaf in self._watched] != self._before

    def _copy(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.clone()
        if isinstance(leaf, BaseDataElement):
            return copy.deepcopy(leaf)
        return leaf

    def _look(self, leaf: Any) -> Any:
        """What tells a change: identities and counts of changes."""
        if isinstance(leaf, Tensor):
            return id(leaf), version(leaf)
        if isinstance(leaf, BaseDataElement):
            return [(name, self._look(value))
                    for name, value in leaf.all_items()]
        return id(leaf)


def _same_items(ones: Any, others: Any) -> bool:
    """Whether two containers hold the very same things."""
    if isinstance(ones, dict):
        return list(map(id, ones)) == list(map(id, others)) and \
            list(map(id, ones.values())) == list(map(id, others.values()))
    if isinstance(ones, set):
        return bool(ones == others)
    return list(map(id, ones)) == list(map(id, others))
