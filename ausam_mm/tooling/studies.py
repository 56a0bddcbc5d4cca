"""Studies: a question, and the trainings that answer it."""

import copy
import hashlib
import json
import os
import re
import runpy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config

from ..checks import require
from .runner import read_config
from .settings import check_wrapper

Options = dict[str, Any]
# What a finished run has written.
Result = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A training: a setting and a seed, in one of the study's cases."""
    case: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """Its files' name."""
        return re.sub(r'\W+', '-', f'{self.case} {self.setting} seed '
                      f'{self.seed}').strip('-')

    def __str__(self) -> str:
        return f'{", ".join(filter(None, (self.case, self.setting)))}, ' \
            f'seed {self.seed}'


@dataclass(frozen=True)
class Study:
    """What a file in ``studies/`` says; its names are these arguments.

    A config is a file, relative to the study's as ``_base_`` is, or
    package::path. Options are merged into it as MMEngine merges an heir into
    its ``_base_``: nested, or with dots, ``{'train_cfg.max_epochs': 160}``.
    Those of a case or a setting may name another ``config`` to start from.

    Args:
        path (Path): The study's file.
        results (Path): The folder of the results.
        question (str): What the study asks.
        config (str): The config that settings start from.
        settings (dict[str, dict]): Options of each setting by its name. In
            ``load_from`` stands ``{seed}`` for the run's.
        seeds (Sequence[int]): The seeds of each setting. Runs with the same
            seed have the same initial weights, order of data and
            augmentations, so that differences are taken seed by seed.
        metric (str): The metric of the last validation.
        comparisons (Sequence[tuple[str, str]]): The pairs of settings that
            decide, each the first minus the second.
        baseline (str, optional): The setting that all differences are to.
            Defaults to None, for the first one.
        cases (dict[str, dict]): Options under which all settings are
            compared, such as levels of noise, by the name of the case.
            Defaults to one without options.
        options (dict): Options of all runs. Defaults to none.
        factor (float): What makes the metric percent: 100 for PCK. Defaults
            to 1.
        reading (str): What the results say, once they are there. Defaults to
            an empty one.
        num_samples (int, optional): Samples of the training data, for a plan
            where the data is not there. Defaults to None.
        scales (dict[str, dict]): Smaller forms of the study by their names:
            ``options`` that are merged last, then those of ``settings`` by
            name, ``cases`` and ``seeds``, those that are kept, and a
            ``factor`` of its own. Defaults to none.
        scale (str): The one that this is. Defaults to '', for none of them.

    Raises:
        ValueError: If parts do not fit together.
    """
    path: Path
    results: Path
    question: str
    config: str
    settings: dict[str, Options]
    seeds: Sequence[int]
    metric: str
    comparisons: Sequence[tuple[str, str]]
    baseline: str | None = None
    cases: dict[str, Options] = field(default_factory=lambda: {'': {}})
    options: Options = field(default_factory=dict)
    factor: float = 1.
    reading: str = ''
    num_samples: int | None = None
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)
    scale: str = ''

    def __post_init__(self) -> None:
        for name in ('settings', 'cases'):
            value = getattr(self, name)
            require(
                isinstance(value, dict) and value and all(
                    isinstance(part, dict) for part in value.values()),
                f'{name}={value!r}: write a dict of options by name, such as '
                "{'SAM': dict(optim_wrapper=dict(type='SAM'))}.")
        require(
            isinstance(self.seeds, (tuple, list, range)) and self.seeds
            and all(type(seed) is int for seed in self.seeds)
            and len(set(self.seeds)) == len(self.seeds),
            f'seeds={self.seeds!r}: write different integers, such as '
            '(0, 1, 2).')
        require(
            isinstance(self.comparisons, (tuple, list)) and self.comparisons
            and all(isinstance(pair, tuple) and len(pair) == 2
                    for pair in self.comparisons),
            f'comparisons={self.comparisons!r}: write pairs of settings, such '
            "as [('SAM', 'SGD')]; each is the first minus the second.")
        of_scales = (part.get('settings', ()) for part in self.scales.values())
        for setting in (*chain(*self.comparisons, *of_scales), self.reference):
            require(
                setting in self.settings, f'{setting!r} is no setting: name '
                f'one of {", ".join(map(repr, self.settings))}.')
        names = [run.name for run in self.runs()]
        twice = next((n for n in names if names.count(n) > 1), None)
        require(
            twice is None, f'Two runs would have the files {twice}: give '
            'settings and cases names that differ in letters or digits.')

    @property
    def name(self) -> str:
        return self.path.stem

    def scaled(self, name: str) -> 'Study':
        """The study in a smaller form, with results of its own.

        Args:
            name (str): One of ``scales``.

        Raises:
            SystemExit: If there is none of this name.
        """
        if name not in self.scales:
            known = ', '.join(map(repr, self.scales)) or 'none: add scales'
            raise SystemExit(f'--scale {name!r} is not in {self.path}, which '
                             f'has {known}.')
        parts = self.scales[name]
        return replace(
            self, results=self.results / name,
            cases={case: self.cases[case]
                   for case in parts.get('cases', self.cases)},
            seeds=parts.get('seeds', self.seeds),
            factor=parts.get('factor', self.factor),
            num_samples=None, scale=name)  # its data are asked

    @property
    def reference(self) -> str:
        """The setting that differences are to."""
        return self.baseline or next(iter(self.settings))

    def runs(self) -> Iterator[Run]:
        """All runs, seed by seed: a study that is stopped early is fair."""
        for seed in self.seeds:
            for case in self.cases:
                for setting in self.settings:
                    yield Run(case, setting, seed)

    def config_of(self, run: Run) -> Config:
        """The whole config of a run.

        Raises:
            SystemExit: If there is no such config, or options do not fit it.
        """
        scale = self.scales.get(self.scale, {})
        parts: list[Options] = copy.deepcopy([
            self.options, self.cases[run.case], self.settings[run.setting],
            scale.get('options', {}),
            scale.get('settings', {}).get(run.setting, {})])
        path = self.config
        for part in parts:
            path = part.pop('config', path)
        cfg = copy.deepcopy(_read(
            path if '::' in path else os.path.join(self.path.parent, path)))
        try:
            for part in parts:
                cfg.merge_from_dict(part)
        except (AttributeError, KeyError, TypeError) as error:
            raise SystemExit(f'The options of {run} do not fit the config: '
                             f'{error}') from error
        for key in ('train_dataloader', 'train_cfg', 'optim_wrapper',
                    'val_evaluator'):
            if not cfg.get(key):
                raise SystemExit(f'The config of {run} has no {key}: a study '
                                 'trains and validates each run.')
        _prepare(cfg, run.seed)
        return cfg

    def fingerprint(self, cfg: Config) -> str:
        """What changes with a run's config, and with the metric."""
        text = json.dumps(
            [self.metric, cfg.to_dict()], sort_keys=True,
            default=lambda value: getattr(value, '__qualname__', repr(value)))
        # Files that configs name by where they lie are the same elsewhere.
        folder = os.path.abspath(self.path.parent)
        root = os.path.commonpath([
            folder, os.path.abspath(os.path.join(folder, self.config))])
        text = text.replace(os.path.join(root, ''), '')
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check(self) -> None:
        """Sees before anything is trained whether wrappers take options.

        Raises:
            SystemExit: If there is no such config, or a run cannot work.
        """
        for run in self.runs():
            if run.seed == self.seeds[0]:
                check_wrapper(self.config_of(run), run.setting)

    def result_of(self, run: Run) -> Result | None:
        """What a run has written, or None if it is not there or stale.

        Raises:
            SystemExit: If the file is no result.
        """
        path = self.results / 'runs' / f'{run.name}.json'
        if not path.exists():
            return None
        try:
            result: Result = json.loads(path.read_text())
            current = self.fingerprint(self.config_of(run))
            return result if result['fingerprint'] == current else None
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise SystemExit(f'{path} is no result of a run: delete it, and '
                             'run the study again.') from error

    def write_result(self, run: Run, result: Result) -> None:
        """Writes a run's result, a line for each key."""
        lines = ',\n'.join(f'{json.dumps(key)}: {json.dumps(value)}'
                           for key, value in result.items())
        write(self.results / 'runs' / f'{run.name}.json', f'{{\n{lines}\n}}\n')


def read_study(path: Path, results: Path | None = None) -> Study:
    """The study of a file.

    Other names than those of :class:`Study`'s arguments begin with ``_``, or
    are imported modules, classes and functions.

    Args:
        path (Path): The file.
        results (Path, optional): The folder of the results. Defaults to
            None, for results/<study> beside the file, to be committed.

    Raises:
        SystemExit: If there is no such file, or it is not a study.
    """
    if not path.is_file():
        raise SystemExit(f'There is no study {path}: name a Python file, such '
                         'as studies/overfitting_cifar10.py.')
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # it may import files beside it, as a script
    try:
        names = runpy.run_path(str(path))
    finally:
        sys.path.remove(folder)
    found = {name: value for name, value in names.items()
             if not name.startswith('_') and not callable(value)
             and not isinstance(value, ModuleType)}
    known = [part.name for part in fields(Study)][2:-1]
    try:
        for name in found:
            require(name in known, f'{name!r} is unknown: the names are '
                    f'{", ".join(known)}; begin names of your own with _.')
        for name in known[:known.index('baseline')]:
            require(name in found, f'{name!r} is missing: write it as in '
                    'studies/overfitting_cifar10.py.')
        return Study(path, results or path.parent / 'results' / path.stem,
                     **found)
    except ValueError as error:
        raise SystemExit(f'{path}: {error}') from error


def write(path: Path, text: str) -> None:
    """Writes a file whole, or not at all if the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(text, encoding='utf-8')
    part.replace(path)


@cache
def _read(path: str) -> Config:
    return read_config(path)


def _prepare(cfg: Config, seed: int) -> None:
    """Sets in a config what a study needs."""
    imports = dict(cfg.get('custom_imports') or {})
    if 'ausam_mm' not in imports.get('imports', []):
        cfg.custom_imports = dict(
            imports, imports=[*imports.get('imports', []), 'ausam_mm'])
    hooks = cfg.get('default_hooks') or {}
    logger = dict(hooks.get('logger') or dict(type='LoggerHook'))
    checkpoint = dict(hooks.get('checkpoint') or dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1))
    # MMEngine deletes the last checkpoint before it writes the next one.
    if checkpoint.get('max_keep_ckpts') == 1:
        checkpoint['max_keep_ckpts'] = 2
    cfg.merge_from_dict(dict(
        randomness=dict(seed=seed),
        # Each line of the log has its own iteration's time.
        log_processor=dict(window_size=1),
        default_hooks=dict(logger=dict(logger, interval=1),
                           checkpoint=checkpoint)))
    if cfg.get('load_from'):
        cfg.load_from = cfg.load_from.replace('{seed}', str(seed))
    # A run that was killed ends as if it had not been, bit for bit.
    loop = cfg.train_cfg
    for kind, by_epoch in (('EpochBasedTrainLoop', True),
                           ('IterBasedTrainLoop', False)):
        if loop.get('type') == kind or (
                'type' not in loop and loop.get('by_epoch') is by_epoch):
            loop.pop('by_epoch', None)
            loop['type'] = f'ExactResume{kind}'
