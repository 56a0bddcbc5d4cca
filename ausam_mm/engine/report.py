"""What people read while it trains."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from mmengine.logging import HistoryBuffer, MessageHub, MMLogger
from torch import Tensor

from ..internals import forget_scalar
from ..sampling import counts_epochs

if TYPE_CHECKING:
    from .step import Step
    from .wrapper import TwoPassOptimWrapper

# MMEngine's LogProcessor takes off the name of the phase.
PREFIX = 'train/ausam/'
# What a line in the terminal has of them; the visualizer gets all.
SHOWN = ('sgd_steps', 'dlp_over_loss', 'rho', 'skipped_steps')
# A buffer is copied at each step, and must not grow with the training.
_LONGEST_WINDOW = 10_000
_HISTORIES = 'ausam_mm/histories'
_SCALAR = re.compile(r'ausam/(\w+): (\S+)(?:  )?')


class Report:
    """Logs the steps of a training, and says at its start what it does.

    MMEngine's LoggerHook takes the scalars from the message hub at its own
    rhythm: all for the visualizer, those of ``SHOWN`` for the terminal.
    """

    def __init__(self) -> None:
        self._begun = False
        self._full_batch = 0
        self._histories: dict[str, HistoryBuffer] = {}

    def write(self, step: Step) -> None:
        """Logs a finished step.

        Args:
            step (Step): The step.
        """
        hub = step.method.message_hub
        if not self._begun:
            self._begun = True
            self._histories = _take_up(hub, type(step.method).__name__)
            _announce(step.method)
        for name, value in self._scalars(step).items():
            if not isinstance(value, int):
                value = float(value)
            if name in self._histories:
                self._histories[name].update(value)
            else:
                # Not by update_scalar: a training that goes on with MMEngine's
                # OptimWrapper would log on what the hub's checkpoint has.
                self._histories[name] = hub.log_scalars[PREFIX + name] = \
                    HistoryBuffer([value], [1], _LONGEST_WINDOW)

    def _scalars(self, step: Step) -> dict[str, float | Tensor]:
        method, size = step.method, step.selection.size
        self._full_batch = max(self._full_batch, size)
        scalars: dict[str, float | Tensor] = {}
        if self._full_batch:  # else only the model understands a batch
            scalars['sgd_steps'] = round(
                (method.samples_backpropagated + method.samples_scored / 3)
                / self._full_batch)
        group = method.param_groups[-1]  # without settings of its own
        # A scheduler or a checkpoint may have changed the config's.
        if 'initial_rho' in group or group['rho'] != method.rho:
            scalars['rho'] = group['rho']
        last = step.second if step.two_passes else step.first
        scalars.update(
            ratio_used=last.num_samples / (size or 1),
            two_passes=float(step.perturbed),
            skipped_perturbations=method.skipped_perturbations,
            skipped_steps=method.skipped_steps,
            samples_loaded=method.samples_loaded,
            samples_backpropagated=method.samples_backpropagated)
        if method.scores_before:
            scalars['samples_scored'] = method.samples_scored
        if step.perturbed:
            scalars['grad_norm'] = step.norm
        return {**scalars, **step.scalars}


def shorten(record: logging.LogRecord) -> bool:
    """Leaves in MMEngine's line about a training step what is ``SHOWN``.

    A filter of a logger, which changes the message and lets it pass.
    """
    if isinstance(record.msg, str) and record.msg.startswith(
            ('Epoch(train)', 'Iter(train)')):
        record.msg = _SCALAR.sub(
            lambda scalar: scalar[0] if _is_shown(*scalar.groups()) else '',
            record.msg).rstrip()
    return True


def _is_shown(name: str, value: str) -> bool:
    return name in SHOWN and (name, value) != ('skipped_steps', '0')


def _take_up(hub: MessageHub, method: str) -> dict[str, HistoryBuffer]:
    """What the method has logged before a resume; another's is dropped.

    Checkpoints hold it as an information, which is not logged by itself.
    """
    for key in [key for key in hub.log_scalars if key.startswith(PREFIX)]:
        forget_scalar(hub, key)
    histories: dict[str, HistoryBuffer] = (
        hub.get_info(_HISTORIES) or {}).get(method, {})
    hub.update_info(_HISTORIES, {method: histories})
    for name, history in histories.items():
        hub.log_scalars[PREFIX + name] = history
    return histories


def _announce(method: TwoPassOptimWrapper) -> None:
    """Says what a Runner's training does, and what will not work out in it."""
    hub = method.message_hub
    if not MMLogger.check_instance_created(hub.instance_name):
        return  # there is no Runner: its logger has the name of its hub
    logger = MMLogger.get_instance(hub.instance_name)
    logger.addFilter(shorten)
    if 'max_iters' not in hub.runtime_info:
        return
    length = f'{hub.get_info("max_epochs")} epochs' if counts_epochs(hub) \
        else f'{hub.get_info("max_iters")} iterations'
    logger.info(f'{type(method).__name__} trains for {length} with '
                f'{method.plan()}.')
    for caution in method.cautions():
        logger.warning(caution)
