"""What a step has changed and has to take back, in whatever way it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Undo:
    """Callbacks that take back what is changed for a while.

    A callback is kept before the change is made, may run twice, and is
    forgotten after it has run. So an interrupt at any line leaves what is
    needed to repair: the next step runs what is left.
    """

    def __init__(self) -> None:
        self._scopes: list[list[Callable[[], Any]]] = []

    def keep(self, callback: Callable[..., Any], *args: Any) -> None:
        """Keeps what takes back a change that is about to be made."""
        self._scopes[-1].append(lambda: callback(*args))

    def replace(self, owner: object, name: str, value: Any) -> None:
        """Gives an object another attribute, of its own alone, for a while."""
        attributes = vars(owner)
        if name in attributes:
            self.keep(attributes.__setitem__, name, attributes[name])
        else:  # that of its class, or none
            self.keep(attributes.pop, name, None)
        attributes[name] = value

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Takes back, at its end, what was changed inside."""
        # A list of its own: Python may end an interrupted generator late,
        # when another step is under way.
        callbacks: list[Callable[[], Any]] = []
        self._scopes.append(callbacks)
        try:
            yield
        finally:
            self._run(callbacks)

    def run(self) -> None:
        """Takes back what interrupted scopes have left."""
        while self._scopes:
            self._run(self._scopes[-1])

    def _run(self, callbacks: list[Callable[[], Any]]) -> None:
        while callbacks:  # the last change first
            callbacks[-1]()
            callbacks.pop()
        self._scopes = [each for each in self._scopes
                        if each is not callbacks]
