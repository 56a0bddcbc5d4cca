"""What a study will take, before it is run."""

import copy
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import set_random_seed
from torch import nn

from ..config import set_optim_wrapper
from .made_up_data import (
    Numbers,
    OneWeight,
    loader_of_one_batch,
    make_batch,
)
from .reports import Row, console, machine, table_of
from .runner import set_dataloader_defaults
from .settings import (
    Setup,
    build_model,
    epoch_size,
    make_loader,
    scope_of,
    without_warmup,
)
from .studies import Run, Study

# Steps before those that are timed or counted: a warm-up has whole batches.
_BEFORE = 1
# Steps whose passes are counted, of a model that costs nothing.
_COUNTED = 60
# Samples of a timed step on a CPU.
_CPU_BATCH = 20
LEGEND = (
    'cost: of a run in steps of SGD, all passes counted, without the whole '
    'batches of a warm-up, and InfoBatch as if it left nothing out. Neither '
    'loading nor validation is in the hours. ')
TIMED = (
    'step: a training step on {images}, median of those that were timed, so '
    'that methods whose steps differ are rough.')
MULTIPLIED = (
    f'step: one of {_CPU_BATCH} {{images}} with the base optimizer is timed, '
    'and multiplied to the batch and by the passes: an estimate.')


@dataclass
class Plan:
    """What the unfinished runs of a setting will take.

    Attributes:
        case (str): The case.
        setting (str): The setting.
        runs (int): How many runs are left.
        iterations (int): Those of a run.
        passes (float): Samples back-propagated in a step by samples of the
            batch; 1 for SGD.
        seconds (float): Those of a step.
    """
    case: str
    setting: str
    runs: int
    iterations: int
    passes: float
    seconds: float

    @property
    def hours(self) -> float:
        """Hours of a run."""
        return self.iterations * self.seconds / 3600


def plan(study: Study, runs: Iterable[Run], device: str,
         steps: int = 2) -> list[Plan]:
    """Times a few steps of each setting that has unfinished runs.

    Args:
        study (Study): The study.
        runs (Iterable[Run]): Its runs; finished ones are left out.
        device (str): Where to train: cpu, cuda, ...
        steps (int): How many steps are timed. Defaults to 2.

    Raises:
        SystemExit: If the data is not there and the study has no
            ``num_samples``, or a config has no images.
    """
    left: dict[tuple[str, str], list[Run]] = {
        (case, setting): [] for case in study.cases
        for setting in study.settings}
    for run in runs:
        if not study.result_of(run):
            left[run.case, run.setting].append(run)
    found = []
    made_up = _has_no_data(study)
    plain: dict[str, float] = {}  # steps of the base optimizer on a CPU
    for (case, setting), same in left.items():
        if not same:
            continue
        cfg = study.config_of(same[0])
        with scope_of(cfg):
            iterations = iterations_of(cfg, study)
            passes = count_passes(cfg)
            if device != 'cpu':
                seconds = time_steps(cfg, device, steps, made_up)
            else:  # where steps of large networks take minutes
                key = repr((cfg.model, cfg.train_dataloader))
                if key not in plain:
                    base = copy.deepcopy(cfg)
                    set_optim_wrapper(base, 'OptimWrapper')
                    plain[key] = time_steps(base, device, steps, made_up)
                seconds = passes * plain[key]
        found.append(Plan(case, setting, len(same), iterations, passes,
                          seconds))
    return found


def _has_no_data(study: Study) -> bool:
    """Whether the study says itself what would be asked of the data."""
    return study.num_samples is not None


def iterations_of(cfg: Config, study: Study) -> int:
    """Iterations of a run."""
    loop = cfg.train_cfg
    if 'max_iters' in loop:
        return int(loop.max_iters)
    return int(loop.max_epochs * math.ceil(
        epoch_size(cfg, study.num_samples)
        / cfg.train_dataloader.batch_size))


def count_passes(cfg: Config) -> float:
    """Samples back-propagated in a step by samples of the batch."""
    size = cfg.train_dataloader.batch_size
    setup = _set_up(cfg, OneWeight(), _COUNTED)
    dataset = Numbers(size)
    samples = [dataset[i] for i in range(size)]
    batch = {name: [sample[name] for sample in samples]
             for name in samples[0]}
    before = setup.count()
    for i in range(_BEFORE + _COUNTED):
        if i == _BEFORE:
            before = setup.count()
        setup.model.train_step(  # type: ignore[operator]
            dict(batch), setup.wrapper)
    loaded, passed = (setup.count()[name] - before[name] for name in (
        'samples_loaded', 'samples_backpropagated'))
    return float(passed / loaded) if loaded else 1.


def time_steps(cfg: Config, device: str, steps: int,
               made_up: bool) -> float:
    """Seconds of a step of the config's batch.

    On a CPU a step of a part of the batch is timed.

    Args:
        cfg (Config): The config.
        device (str): Where to train: cpu, cuda, ...
        steps (int): How many steps are timed.
        made_up (bool): Whether the images are made up, 256 pixels on either
            side before the pipeline, in place of the first ones of the data.
    """
    cfg = copy.deepcopy(cfg)
    size = cfg.train_dataloader.batch_size
    part = min(size, _CPU_BATCH) if device == 'cpu' else size
    cfg.train_dataloader.batch_size = part
    set_dataloader_defaults(cfg, ['train_dataloader'], pin_memory=False)
    set_random_seed(0)
    if made_up:
        batch, _ = make_batch(cfg, 256, 0)
    else:
        batch = next(iter(make_loader(
            Config(dict(train_dataloader=loader_of_one_batch(cfg))), 0)))
    setup = _set_up(cfg, build_model(cfg).to(device), steps)
    times = []
    for _ in range(_BEFORE + steps):
        start = time.perf_counter()
        setup.model.train_step(  # type: ignore[operator]
            dict(batch), setup.wrapper)
        if device != 'cpu':
            torch.get_device_module(device).synchronize()
        times.append(time.perf_counter() - start)
    return float(statistics.median(times[_BEFORE:]) * size / part)


def _set_up(cfg: Config, model: nn.Module, steps: int) -> Setup:
    """A model in training, whose wrapper is beyond its warm-up soon."""
    cfg = copy.deepcopy(cfg)
    for kind in ('warmup', 'ramp'):
        cfg.optim_wrapper.pop(f'{kind}_epochs', None)
    without_warmup(cfg)
    setup = Setup('', model.train(), build_optim_wrapper(
        model, cfg.optim_wrapper))
    setup.wrapper.initialize_count_status(model, 0, 10 * (_BEFORE + steps))
    return setup


def print_plan(study: Study, plans: list[Plan], device: str) -> None:
    """Prints what is left to run."""
    if not plans:
        print('All runs are finished.')
        return
    rows: list[Row] = [_cells(one, study) for one in plans]
    total = sum(one.runs * one.hours for one in plans)
    console().print(table_of(
        f'{study.name}: {sum(one.runs for one in plans)} runs, '
        f'{total:,.1f} hours of {device}, one run after the other', rows,
        LEGEND + (MULTIPLIED if device == 'cpu' else TIMED).format(
            images='made-up images' if _has_no_data(study) else 'images')),
        machine(), sep='\n')


def _cells(one: Plan, study: Study) -> dict[str, Any]:
    name = {'case': one.case} if len(study.cases) > 1 else {}
    return {**name, 'setting': one.setting, 'runs': f'{one.runs}',
            'iterations': f'{one.iterations:,}',
            'cost': f'{one.passes * one.iterations:,.0f}',
            'step\n[ms]': f'{1000 * one.seconds:,.0f}',
            'hours\na run': f'{one.hours:,.2f}',
            'hours': f'{one.runs * one.hours:,.1f}'}
