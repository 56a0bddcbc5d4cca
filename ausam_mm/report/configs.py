"""The settings of configs, and in which of them they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

# A config as one dict: 'optim_wrapper.rho' and its value, as text.
Settings = dict[str, str]
# What differs between the seeds of one setting, or says only where it ran.
_OF_A_RUN = ('randomness.seed', 'work_dir', 'experiment_name', 'resume',
             'launcher', 'log_level')
# What is asked for first stands first.
_FIRST = ('optim_wrapper', 'train_cfg', 'train_dataloader', 'param_scheduler',
          'load_from', 'model')


def flatten(value: Any, prefix: str = '') -> Settings:
    """Nested dicts and lists of them as one dict of dotted keys.

    Example:
        >>> from ausam_mm.report.configs import flatten
        >>> flatten(dict(optimizer=dict(lr=0.1), alpha=(0.25, 0.75)))
        {'optimizer.lr': '0.1', 'alpha': '(0.25, 0.75)'}
    """
    items: Any
    if isinstance(value, Mapping) and value:
        items = value.items()
    elif isinstance(value, (list, tuple)) and any(
            isinstance(part, (Mapping, list, tuple)) for part in value):
        items = enumerate(value)
    else:
        return {prefix: value if isinstance(value, str) else repr(value)}
    found: Settings = {}
    for key, part in items:
        found.update(flatten(part, f'{prefix}.{key}' if prefix else str(key)))
    return found


def of_setting(settings: Settings) -> Settings:
    """The settings without those of one run, such as its seed."""
    resumed = settings.get('resume') == 'True'
    return {key: value for key, value in settings.items()
            if key not in _OF_A_RUN and not (resumed and key == 'load_from')}


def split(all_settings: Sequence[Settings]) -> tuple[list[str], list[str]]:
    """The keys in which settings differ, and those in which they do not.

    Either with the keys of the OptimWrapper first.
    """
    keys = list(dict.fromkeys(
        key for settings in all_settings for key in settings))

    def place(key: str) -> tuple[bool, int]:
        first = key.split('.')[0]
        return key != 'optim_wrapper.type', _FIRST.index(first) \
            if first in _FIRST else len(_FIRST)

    keys.sort(key=place)
    same = [key for key in keys if len(
        {settings.get(key) for settings in all_settings}) == 1]
    return [key for key in keys if key not in same], same
