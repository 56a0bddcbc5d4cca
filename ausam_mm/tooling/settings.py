"""Settings of a config, and models that train with them side by side."""

import argparse
import copy
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS, DefaultScope
from mmengine.runner import Runner, load_checkpoint, set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..config import set_optim_wrapper
from .made_up_data import make_inputs
from .runner import add_trust, loading_as, read_config

COUNTERS = ('samples_loaded', 'samples_backpropagated', 'samples_scored')


@dataclass
class Setup:
    """A model in training, with the setting's wrapper."""
    setting: str
    model: nn.Module
    wrapper: OptimWrapper

    def count(self) -> dict[str, int]:
        """The counters of a two-pass wrapper; 0 where it has none."""
        return {name: getattr(self.wrapper, name, 0) for name in COUNTERS}

    def is_finite(self) -> bool:
        """Whether the training went well: other steps may be cheaper."""
        return not getattr(self.wrapper, 'skipped_steps', 0) and all(
            bool(torch.isfinite(p).all()) for p in self.model.parameters())


def parse_setting(setting: str) -> tuple[str, list[str]]:
    """The wrapper's name and the options, as ``--cfg-options`` takes them.

    Of a setting such as 'AUSAM alpha=0.5 train_cfg.max_epochs=20'.
    """
    name, *parts = setting.split() or ['']
    if not name or '=' in name:
        raise SystemExit(
            f'The setting {setting!r} names no wrapper: write it first, as in '
            "'AUSAM alpha=0.5'.")
    for part in parts:
        if '=' not in part:
            raise SystemExit(
                f'The setting {setting!r} has the part {part!r}: write '
                'options as key=value without spaces, as in '
                "'AUSAM alpha=(0.25,0.75)'.")
    return name, [part if '.' in part.split('=')[0] else
                  f'optim_wrapper.{part}' for part in parts]


def merge(cfg: Config, options: Sequence[str]) -> None:
    """Takes options of the command line into a config, in place."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction)
    cfg.merge_from_dict(
        parser.parse_args(['--cfg-options', *options]).cfg_options)


def configure(cfg: Config, setting: str, common: Sequence[str]) -> Config:
    """A copy of a config with a setting's wrapper and options.

    ``common`` are the options of all settings.
    """
    name, options = parse_setting(setting)
    cfg = copy.deepcopy(cfg)
    try:
        set_optim_wrapper(cfg, name)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    merge(cfg, [*common, *options])
    check_wrapper(cfg, setting)
    return cfg


def check_wrapper(cfg: Config, setting: str) -> None:
    """Sees whether a setting's wrapper takes its options.

    Raises:
        SystemExit: If it does not.
    """
    # These two want the model.
    wrapper = {key: value for key, value in cfg.optim_wrapper.items()
               if key not in ('paramwise_cfg', 'constructor')}
    try:
        build_optim_wrapper(nn.Linear(1, 1), wrapper)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(f'The setting {setting!r}: {error}') from error


def without_warmup(cfg: Config) -> None:
    """Lets a wrapper sample from its second step on, unless told otherwise."""
    kind: Any = OPTIM_WRAPPERS.get(
        cfg.optim_wrapper.get('type', 'OptimWrapper'))
    known = {name for parent in inspect.getmro(kind)
             for name in inspect.signature(parent).parameters}
    for name, iterations in (('warmup', 1), ('ramp', 0)):
        names = {f'{name}_iters', f'{name}_epochs'}
        if names <= known and not names & set(cfg.optim_wrapper):
            cfg.optim_wrapper[f'{name}_iters'] = iterations


@contextmanager
def scope_of(cfg: Config) -> Iterator[None]:
    """The names in a config are those of its library."""
    with DefaultScope.overwrite_default_scope(
            cfg.get('default_scope', 'mmengine')):
        yield


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, with random weights; in its scope."""
    model = cfg.model
    # As tools/train.py and MMEngine's Runner have it.
    for name in ('preprocess_cfg', 'data_preprocessor'):
        if name in cfg:
            model.setdefault('data_preprocessor', cfg[name])
    # Not init_weights: that may download weights, which are not needed here.
    built: nn.Module = MODELS.build(model)
    return built


def build_setup(cfg: Config, setting: str, args: argparse.Namespace) -> Setup:
    """A model and its wrapper, the same initial weights for each setting."""
    set_random_seed(args.seed)
    model = build_model(cfg).to(args.device).train()
    return Setup(setting, model, build_optim_wrapper(
        model, cfg.optim_wrapper))


def make_loader(cfg: Config, seed: int, remedy: str = '') -> DataLoader[Any]:
    """The config's train_dataloader, or a sentence on what is missing.

    ``remedy`` says what else can be done.
    """
    try:
        loader: DataLoader[Any] = Runner.build_dataloader(
            cfg.train_dataloader, seed=seed)
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f'The training data cannot be read ({error}): name their place '
            f'with --cfg-options train_dataloader.dataset.data_root=FOLDER'
            f'{remedy}.') from error
    if not len(loader):
        raise SystemExit('The training samples are less than a batch: take a '
                         'smaller batch size.')
    return loader


def epoch_size(cfg: Config, known: int | None = None) -> int:
    """Samples of an epoch: of the data set, or of so many that are known."""
    loader = cfg.train_dataloader
    if known:
        kept = loader.dataset.get('indices') or known  # or a list of them
        return min(known, kept if isinstance(kept, int) else len(kept))
    alone = dict(loader, batch_size=1, num_workers=0,
                 persistent_workers=False)
    with scope_of(cfg):
        return len(make_loader(
            Config(dict(train_dataloader=alone)), 0,
            ', or write num_samples = ... into the study'))


def model_parser(doc: str | None,
                 checkpoint: bool = True) -> argparse.ArgumentParser:
    """The arguments of a tool that looks at one model."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('config', help='a file, or package::path')
    if checkpoint:
        parser.add_argument('checkpoint', help='the checkpoint file')
        parser.add_argument('--seed', type=int, default=0)
    else:
        parser.set_defaults(checkpoint=None, seed=0)
    add_trust(parser)
    parser.add_argument('--image-size', type=positive, default=256,
                        help='sides of made-up images before the pipeline '
                        '(256)')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings to override, key=value')
    return parser


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Adds ``--shape``, which :func:`inputs_of` reads."""
    parser.add_argument('--shape', type=positive, nargs=2, metavar=('H', 'W'),
                        help='size of the input; the default is what the\n'
                        "config's training pipeline makes")


def inputs_of(cfg: Config, model: nn.Module, number: int,
              args: argparse.Namespace) -> Tensor:
    """Noise of the shape that is asked for, or made-up images."""
    if args.shape:
        return torch.randn(number, 3, *args.shape)
    return make_inputs(cfg, model, number, args.image_size, args.seed)


@contextmanager
def open_model(args: argparse.Namespace) -> Iterator[tuple[Config, nn.Module]]:
    """A tool's config and its model in eval mode, in the config's scope.

    Raises:
        SystemExit: If there is no such config or checkpoint, or it could run
            code and ``--trust-checkpoint`` is not given.
    """
    cfg = read_config(args.config)
    merge(cfg, args.cfg_options)
    set_random_seed(args.seed)
    path = args.checkpoint
    with scope_of(cfg):
        with loading_as(args):
            model = build_model(cfg)
            if path:
                if '://' not in path and not Path(path).is_file():
                    raise SystemExit(f'There is no checkpoint {path}: name '
                                     'the file of a trained model.')
                load_checkpoint(model, path, map_location='cpu')
        model.eval()  # which returns None for backbones of mmpretrain
        yield cfg, model


def settings_parser(doc: str | None, flag: str,
                    settings: Sequence[str]) -> argparse.ArgumentParser:
    """The arguments of a tool that times settings side by side."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG',
                        help='a file, or package::path')
    parser.add_argument(flag, nargs='+', metavar='SETTING', dest='settings',
                        default=list(settings),
                        help='ratios are to the first; the default is\n'
                        f'{", ".join(settings)}')
    parser.add_argument('--device', type=usable, default='cpu',
                        help='cpu, cuda, ...')
    parser.add_argument('--seed', type=int, default=0,
                        help='of weights, data and sampling (0)')
    parser.add_argument('--out', type=Path, help='folder of the results; the '
                        'default is\nwork_dirs/<tool>/<first config>')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings of all configs, key=value')
    return parser


def positive(text: str) -> int:
    """An integer of at least 1."""
    if not re.fullmatch('0*[1-9][0-9]*', text):
        raise argparse.ArgumentTypeError(f'{text!r} must be 1 or more')
    return int(text)


def usable(device: str) -> str:
    """A device that tensors can be made on."""
    try:
        torch.zeros(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(
            f'{device} cannot be used ({str(error).splitlines()[0]}): take '
            'another, such as cpu') from error
    return device
