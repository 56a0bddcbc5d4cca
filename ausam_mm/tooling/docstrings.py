"""What docstrings of methods say."""

import inspect


def paragraphs(kind: type) -> list[str]:
    """A docstring's paragraphs before Args, a line each."""
    text = (inspect.getdoc(kind) or '').split('\nArgs:\n')[0]
    return [' '.join(part.split()) for part in text.split('\n\n')]


def cost(kind: type) -> str:
    """What follows `Cost:` in the docstring, or an empty text."""
    return next((part.split('Cost: ')[1] for part in paragraphs(kind)
                 if 'Cost: ' in part), '')
