"""Settings of a config, and models that train with them side by side."""

import argparse
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Sequence

import torch
from _common import load_config
from mmengine.config import Config, DictAction
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint, set_random_seed
from torch import nn

COUNTERS = ('samples_loaded', 'samples_backpropagated', 'samples_scored')


@dataclass
class Setup:
    """A model in training.

    Attributes:
        setting (str): The setting.
        model (nn.Module): The model.
        wrapper (OptimWrapper): Its wrapper.
    """
    setting: str
    model: nn.Module
    wrapper: OptimWrapper


def read_config(path: str) -> Config:
    """The config of a file, or of an installed package, with no options."""
    if '::' not in path and not Path(path).is_file():
        raise SystemExit(f'There is no config {path}: name a file, or one of '
                         'an installed package as package::path.')
    return load_config(argparse.Namespace(
        config=path, launcher='none', local_rank=0, work_dir=None))


def merge(cfg: Config, options: Sequence[str]) -> None:
    """Takes options of the command line into a config, in place."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    cfg.merge_from_dict(
        parser.parse_args(['--cfg-options', *options]).cfg_options)


def check(cfg: Config, setting: str) -> None:
    """Ends with a sentence where a wrapper does not take its options."""
    options = dict(cfg.optim_wrapper)
    # These want the model.
    options.pop('paramwise_cfg', None)
    options.pop('constructor', None)
    try:
        build_optim_wrapper(nn.Linear(1, 1), options)
    except (AssertionError, TypeError, ValueError) as error:
        raise SystemExit(f'The setting {setting!r}: {error}') from error


@contextmanager
def scope_of(cfg: Config) -> Iterator[None]:
    """The names in a config are those of its library."""
    with DefaultScope.overwrite_default_scope(
            cfg.get('default_scope', 'mmengine')):
        yield


def build_setup(cfg: Config, setting: str, device: str, seed: int) -> Setup:
    """A model and its wrapper, the same initial weights for each setting.

    Args:
        cfg (Config): The config with the setting's wrapper.
        setting (str): The setting.
        device (str): Where it trains.
        seed (int): Of the weights.

    Returns:
        Setup: Both, ready to train.
    """
    set_random_seed(seed)
    model = build_model(cfg).to(device).train()
    return Setup(setting, model, build_optim_wrapper(
        model, cfg.optim_wrapper))


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, with random weights.

    Args:
        cfg (Config): The config, whose scope is the current one.

    Returns:
        nn.Module: The model.
    """
    model = cfg.model
    # As tools/train.py and MMEngine's Runner have it.
    for name in ('preprocess_cfg', 'data_preprocessor'):
        if name in cfg:
            model.setdefault('data_preprocessor', cfg[name])
    # Not init_weights: that may download weights, which are not needed here.
    return MODELS.build(model)


def load_weights(model: nn.Module, path: str) -> None:
    """Loads a checkpoint into a model, or ends with a sentence.

    Args:
        model (nn.Module): The model.
        path (str): The checkpoint.
    """
    if '://' not in path and not Path(path).is_file():
        raise SystemExit(f'There is no checkpoint {path}: name the file of a '
                         'trained model.')
    load_checkpoint(model, path, map_location='cpu')


def count(wrapper: OptimWrapper) -> Dict[str, int]:
    """The counters of a two-pass wrapper; 0 where it has none."""
    return {name: getattr(wrapper, name, 0) for name in COUNTERS}


def is_finite(setup: Setup) -> bool:
    """Whether the training went well: other steps may be cheaper."""
    return not getattr(setup.wrapper, 'skipped_steps', 0) and all(
        bool(torch.isfinite(p).all()) for p in setup.model.parameters())


def positive(text: str) -> int:
    """An integer of at least 1."""
    if not re.fullmatch('0*[1-9][0-9]*', text):
        raise argparse.ArgumentTypeError(f'{text!r} must be 1 or more')
    return int(text)


def check_device(parser: argparse.ArgumentParser, device: str) -> None:
    """Ends with a sentence where a device cannot be used."""
    try:
        torch.zeros(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        parser.error(f'--device {device} cannot be used '
                     f'({str(error).splitlines()[0]}): take another, such as '
                     'cpu')
