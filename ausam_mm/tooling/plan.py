"""What a study will take, before it is run."""

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

from .made_up_data import make_batch
from .reports import Row, console, machine, table_of
from .runner import set_dataloader_defaults
from .settings import (
    Setup,
    build_model,
    make_loader,
    scope_of,
    without_warmup,
)
from .studies import Run, Study

# Steps before those that are timed: a warm-up has the whole batch.
_BEFORE = 1
# Samples of a timed step on a CPU: ratios of them are whole numbers.
_CPU_BATCH = 20
LEGEND = (
    'cost: of a run in steps of SGD, all passes counted, without the whole '
    'batches of a warm-up. step: a training step on made-up images, median of '
    'those that were timed, so that methods whose steps differ are rough. '
    'Neither loading nor validation is in the hours.')


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
    for (case, setting), same in left.items():
        if not same:
            continue
        cfg = study.config_of(same[0])
        with scope_of(cfg):
            iterations = iterations_of(cfg, study)
            seconds, passes = time_steps(cfg, setting, device, steps)
        found.append(Plan(case, setting, len(same), iterations, passes,
                          seconds))
    return found


def iterations_of(cfg: Config, study: Study) -> int:
    """Iterations of a run."""
    loop = cfg.train_cfg
    if 'max_iters' in loop:
        return int(loop.max_iters)
    loader = cfg.train_dataloader
    number = study.num_samples
    if not number or study.scale:
        alone = dict(loader, batch_size=1, num_workers=0,
                     persistent_workers=False)
        number = len(make_loader(
            Config(dict(train_dataloader=alone)), 0,
            ', or write num_samples = ... into the study'))
    return int(loop.max_epochs * math.ceil(number / loader.batch_size))


def time_steps(cfg: Config, setting: str, device: str,
               steps: int) -> tuple[float, float]:
    """Seconds of a step of the config's batch, and passes of each sample.

    On a CPU a step of a part of the batch is timed.
    """
    size = cfg.train_dataloader.batch_size
    part = min(size, _CPU_BATCH) if device == 'cpu' else size
    cfg.train_dataloader.batch_size = part
    set_dataloader_defaults(cfg, ['train_dataloader'], pin_memory=False)
    for kind in ('warmup', 'ramp'):
        cfg.optim_wrapper.pop(f'{kind}_epochs', None)
    without_warmup(cfg)
    set_random_seed(0)
    batch, _ = make_batch(cfg, 256, 0)
    model = build_model(cfg).to(device).train()
    setup = Setup(setting, model, build_optim_wrapper(
        model, cfg.optim_wrapper))
    setup.wrapper.initialize_count_status(model, 0, 10 * (_BEFORE + steps))
    times = []
    before = setup.count()
    for i in range(_BEFORE + steps):
        if i == _BEFORE:
            before = setup.count()
        start = time.perf_counter()
        model.train_step(dict(batch), setup.wrapper)  # type: ignore[operator]
        if device != 'cpu':
            torch.get_device_module(device).synchronize()
        times.append(time.perf_counter() - start)
    after = setup.count()
    loaded, passed = (after[name] - before[name] for name in (
        'samples_loaded', 'samples_backpropagated'))
    return (statistics.median(times[_BEFORE:]) * size / part,
            passed / loaded if loaded else 1.)


def print_plan(study: Study, plans: list[Plan], device: str) -> None:
    """Prints what is left to run."""
    if not plans:
        print('All runs are finished.')
        return
    rows: list[Row] = [_cells(one, study) for one in plans]
    total = sum(one.runs * one.hours for one in plans)
    part = '' if device != 'cpu' else \
        f' On a CPU steps of {_CPU_BATCH} samples are timed.'
    console().print(table_of(
        f'{study.name}: {sum(one.runs for one in plans)} runs, '
        f'{total:,.1f} hours of {device}, one run after the other', rows,
        LEGEND + part), machine(), sep='\n')


def _cells(one: Plan, study: Study) -> dict[str, Any]:
    name = {'case': one.case} if len(study.cases) > 1 else {}
    return {**name, 'setting': one.setting, 'runs': f'{one.runs}',
            'iterations': f'{one.iterations:,}',
            'cost': f'{one.passes * one.iterations:,.0f}',
            'step\n[ms]': f'{1000 * one.seconds:,.0f}',
            'hours\na run': f'{one.hours:,.2f}',
            'hours': f'{one.runs * one.hours:,.1f}'}
