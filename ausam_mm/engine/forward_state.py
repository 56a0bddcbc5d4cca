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
from ..losses.detection import LOSS_METHOD
from .capture import Call
from .distributed import is_fsdp

# torch's own, and the method that is replaced while losses are watched.
_LEFT_ALONE = {*vars(nn.Module()), '_compiled_call_impl', LOSS_METHOD}
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
        value (Any): What it was when it was kept.
        content (Any): A copy of its content, if it can change in place.
        changes (int): How often the tensor had changed in place.
    """
    name: str
    owner: nn.Module
    key: str
    value: Any = None
    content: Any = None
    changes: int = 0

    def current(self) -> Any:
        """What it is now."""
        return getattr(self.owner, self.key, None)

    def keep(self) -> None:
        """Keeps the value; the content of a tensor is not its business."""
        self.value, self.content = self.current(), None
        if isinstance(self.value, Tensor):
            self.changes = version(self.value)
        elif isinstance(self.value, _CONTAINERS):
            self.content = copy.copy(self.value)

    def has_changed(self) -> bool:
        """Whether it is another value, or has another content."""
        value = self.current()
        if value is not self.value:
            return not (isinstance(value, _PRIMITIVES)
                        and type(value) is type(self.value)
                        and value == self.value)
        if isinstance(value, Tensor):
            if self.content is None:
                return version(value) != self.changes
            return not torch.equal(value, self.content)
        return isinstance(value, _CONTAINERS) and not _same_items(
            value, self.content)

    def restore(self) -> None:
        """Gives back the value, and the content of what is no tensor."""
        if isinstance(self.value, list):
            self.value[:] = self.content
        elif isinstance(self.value, deque):
            self.value.clear()
            self.value.extend(self.content)
        elif isinstance(self.value, (dict, set)):
            self.value.clear()
            self.value.update(self.content)
        if self.current() is not self.value:
            setattr(self.owner, self.key, self.value)


class _Copies:
    """Copies of the tensors in some slots, in buffers that are used again."""

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def keep(self, slots: list[_Slot]) -> None:
        """Keeps the contents of tensors."""
        self._slots = [slot for slot in slots
                       if isinstance(slot.value, Tensor)]
        for slot in self._slots:
            kept = self._buffers.get(slot.name)
            if kept is None or kept.shape != slot.value.shape \
                    or kept.dtype != slot.value.dtype \
                    or kept.device != slot.value.device:
                self._buffers[slot.name] = torch.empty_like(
                    slot.value, requires_grad=False)
            slot.content = self._buffers[slot.name]
        if self._slots:
            torch._foreach_copy_([slot.content for slot in self._slots],
                                 [slot.value for slot in self._slots])

    @torch.no_grad()
    def restore(self, slots: list[_Slot]) -> None:
        """Gives the tensors in some of the slots their contents back."""
        slots = [slot for slot in slots if isinstance(slot.value, Tensor)
                 and slot.content is not None]
        if slots:
            torch._foreach_copy_([slot.value for slot in slots],
                                 [slot.content for slot in slots])

    def forget(self, names: set[str]) -> None:
        """Drops all buffers but some."""
        self._buffers = {name: buffer for name, buffer in
                         self._buffers.items() if name in names}


class ForwardState:
    """Rewinds what the first pass has changed, for the second one.

    What changes is found out in the first two steps, and again at times, by
    comparing copies of everything that could. From then on these are copied
    alone, and a change of any other tensor is noticed by PyTorch's version
    counters. BatchNorm's statistics are not part of it (see
    :func:`frozen_statistics`), but for those of averaged models, into which
    their update copies others. Neither is the state of a module whose pass
    sets its trained parameters, too, as lazy initialization does once.

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
        self._before, self._after = _Copies(), _Copies()
        self._everything = False
        self._saves = 0
        self._versions: dict[nn.Module, list[int]] = {}
        self._initialized: set[nn.Module] = set()

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
            self._before.forget(self.moving)
        self._everything = everything
        self._initialized = set()
        self._versions = self._count_changes() if everything else {}
        for slot in self._slots:
            slot.keep()
        self._before.keep([slot for slot in self._slots if everything
                           or slot.name in self.moving])

    def reset(self) -> None:
        """Makes everything what it was, as if no pass had been."""
        self._find_initialized()
        self._restore(self._changed())

    def rewind(self) -> list[str]:
        """Makes everything what it was, and keeps what the pass made of it.

        Returns:
            list[str]: Names of what has changed for the first time, so that
            there is no copy; if there is any, nothing is rewound.
        """
        self._find_initialized()
        changed = self._changed()
        self.moving.update(slot.name for slot in changed)
        lost = [slot.name for slot in changed
                if isinstance(slot.value, Tensor) and slot.content is None
                and version(slot.value) != slot.changes]
        if lost:
            return lost
        made = [_Slot(slot.name, slot.owner, slot.key) for slot in changed]
        for slot in made:
            slot.keep()
        self._after.keep(made)
        self._made = made
        self._restore(changed)
        return []

    def advance(self) -> None:
        """Makes everything what the first pass made of it, if rewound."""
        made, self._made = self._made, None
        if made is None:
            return
        # Where the weights of a teacher were those of its student, the first
        # pass has changed nothing, and the second one did.
        done = {slot.name for slot in made}
        others = [slot for slot in self._changed() if slot.name not in done]
        self.moving.update(slot.name for slot in others)
        self._restore(others)
        for slot in made:
            slot.restore()
        self._after.restore(made)

    def _restore(self, slots: list[_Slot]) -> None:
        for slot in slots:
            slot.restore()
        self._before.restore(slots)

    def _changed(self) -> list[_Slot]:
        """What is known to change, or was seen to."""
        return [slot for slot in self._slots
                if slot.owner not in self._initialized and (
                    (slot.name in self.moving and not self._everything)
                    or slot.has_changed())]

    def _count_changes(self) -> dict[nn.Module, list[int]]:
        """How often the trained parameters of each module have changed."""
        if is_fsdp(self.model):  # its passes change them
            return {}
        return {module: [version(p) for p in module.parameters(recurse=False)
                         if p.requires_grad]
                for module in {slot.owner: None for slot in self._slots}}

    def _find_initialized(self) -> None:
        """Finds modules whose pass has set their trained parameters.

        While nothing but forward passes has run since they were counted.
        """
        now = self._count_changes() if self._versions else {}
        self._initialized = {module for module, counts in now.items()
                             if counts != self._versions[module]}

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
            yield from vars(module).keys() - _LEFT_ALONE


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
