"""What a setting costs in theory, in steps of the base optimizer."""

import re
from dataclasses import dataclass

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ..engine import TwoPassOptimWrapper
from ..methods import AUSAM
from ..tooling.docstrings import cost

# What building a wrapper needs a model or a device for.
_OF_THE_MODEL = ('paramwise_cfg', 'constructor', 'base')


@dataclass(frozen=True)
class Theory:
    """The cost of a training in theory.

    Attributes:
        step (float, optional): That of a step after the warm-up; None where
            it depends on the training.
        training (float, optional): The mean over the training's steps, with
            the warm-up.
        text (str): What the method's docstring says.
        plain (bool): Whether it is no method of two passes. Defaults to
            False.
    """
    step: float | None
    training: float | None
    text: str
    plain: bool = False


def theory_of(cfg: Config, epoch_length: float | None = None) -> Theory:
    """The cost of a config's OptimWrapper.

    Args:
        cfg (Config): The config.
        epoch_length (float, optional): Iterations of an epoch, where they
            are known.
    """
    options = dict(cfg.get('optim_wrapper') or {})
    name = options.get('type', 'OptimWrapper')
    kind = OPTIM_WRAPPERS.get(name) if isinstance(name, str) else name
    if kind is None:
        return Theory(None, None, f'{name} is not known here.')
    if not issubclass(kind, TwoPassOptimWrapper):
        return Theory(1., 1., 'One pass a step.', plain=True)
    text = cost(kind)
    if issubclass(kind, AUSAM):
        try:
            method = build_optim_wrapper(nn.Linear(1, 1), {
                key: value for key, value in options.items()
                if key not in _OF_THE_MODEL})
        except Exception:  # of any kind: options and optimizer are the user's
            return Theory(None, None, text)
        assert isinstance(method, AUSAM)
        step = float(sum(method.alpha))
        share = 0. if method.alpha[0] == 1 else warmup_share(
            cfg, *method.schedule.warmup, epoch_length)
        return Theory(step, None if share is None else
                      2 * share + step * (1 - share), text)
    number = re.match(r'(\d+) SGD steps?\b', text)
    step_ = float(number[1]) if number else None
    return Theory(step_, step_, text)


def warmup_share(cfg: Config, length: float, unit: str,
                 epoch_length: float | None) -> float | None:
    """Which share of the training the warm-up is, or None if unknown."""
    loop = cfg.get('train_cfg') or {}
    whole = loop.get('max_epochs' if unit == 'epochs' else 'max_iters')
    if not length:
        return 0.
    if whole is None and unit == 'iters' and epoch_length:
        whole = loop.get('max_epochs', 0) * epoch_length
    return min(1., length / whole) if whole else None
