"""Checks of what users set."""

from typing import Any


def require(condition: Any, sentence: str) -> None:
    """Raises a ValueError with a sentence that names the remedy."""
    if not condition:
        raise ValueError(sentence)


def require_choice(name: str, value: Any, *choices: str | None) -> None:
    """Raises a ValueError unless a value is one of the choices."""
    require(value in choices, f'{name}={value!r} is unknown: set one of '
            f'{", ".join(map(repr, choices))}.')


def is_number(value: Any) -> bool:
    """Whether a value is an int or float, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
