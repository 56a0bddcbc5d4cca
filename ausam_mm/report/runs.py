"""What is read of a training's folder."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checks import require
from ..tooling.results import Record, accumulate, read_scalars
from .configs import Settings, flatten
from .log import Log, read_log

# What a line of a validation has beside metrics.
_NO_METRIC = ('data_time', 'time', 'step', 'epoch', 'iter')


@dataclass
class Training:
    """A training, finished or not.

    Attributes:
        name (str): The name of its folder.
        path (Path): Its folder, MMEngine's work_dir.
        config_path (Path): The config that MMEngine dumped there.
        config (Config): The same.
        settings (dict[str, str]): The same, flat.
        records (list[dict]): The lines of its scalars.
        log (Log): What else its log says.
    """
    name: str
    path: Path
    config_path: Path
    config: Config
    settings: Settings
    records: list[Record]
    log: Log

    @property
    def seed(self) -> int:
        """The config's seed, or the one that MMEngine took; else -1."""
        seed = (self.config.get('randomness') or {}).get('seed')
        if seed is None:
            seed = self.log.environment.get('seed', '')
        return int(seed) if re.fullmatch(r'\d+', str(seed)) else -1

    @property
    def batch_size(self) -> int:
        """Samples of a full batch, of a process."""
        loader = self.config.get('train_dataloader') or {}
        return int(loader.get('batch_size') or 1)

    @property
    def steps(self) -> list[Record]:
        """The lines of training steps."""
        return [record for record in self.records if 'loss' in record]

    @property
    def metrics(self) -> list[str]:
        """The names of validation metrics, in the order of the log."""
        return list(dict.fromkeys(
            key for record in self.records if 'loss' not in record
            for key, value in record.items() if key not in _NO_METRIC
            and isinstance(value, (int, float))))

    @property
    def by_epoch(self) -> bool:
        """Whether its loop counts epochs."""
        return bool((self.config.get('train_cfg') or {}).get('max_epochs'))

    @property
    def length(self) -> int | None:
        """Epochs of the whole training, or iterations; None if unknown."""
        loop = self.config.get('train_cfg') or {}
        length = loop.get('max_epochs' if self.by_epoch else 'max_iters')
        return None if length is None else int(length)

    @property
    def epoch_length(self) -> float:
        """Iterations of an epoch; 1 where iterations are counted."""
        if not self.by_epoch or not self.steps:
            return 1
        last = self.steps[-1]
        return float(self.log.length or last['step'] / last.get('epoch', 1))

    @property
    def checkpoint(self) -> int:
        """The epoch or iteration of the last checkpoint; 0 without one."""
        last = self.path / 'last_checkpoint'
        found = re.search(r'(epoch|iter)_(\d+)\.pth', last.read_text()) \
            if last.is_file() else None
        return int(found[2]) if found and (
            found[1] == 'epoch') == self.by_epoch else 0

    @property
    def done(self) -> float:
        """How much of it is logged, in epochs or iterations."""
        trained = self.steps[-1]['step'] / self.epoch_length \
            if self.steps else 0
        # The last iterations may have no line of their own.
        return float(max([trained, self.checkpoint, *(
            record['step'] for record in self.records
            if 'loss' not in record)]))

    @property
    def finished(self) -> bool:
        """Whether it reached its end, as far as its config tells."""
        if self.length is None or not self.steps:
            return bool(self.steps)
        missing = (self.length - self.done) * self.epoch_length
        hooks = self.config.get('default_hooks') or {}
        interval = (hooks.get('logger') or {}).get('interval', 10)
        # Without checkpoints: less is left than a line of the log stands for.
        return missing <= 0 or not self.checkpoint and missing < interval

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        unit = 'epoch' if self.by_epoch else 'iteration'
        return f'{unit} {round(self.done, 1):.10g}' + (
            f' of {self.length}' if self.length else '')

    def curve(self, key: str) -> list[dict[str, float]]:
        """Values of a scalar with the cost until then.

        Args:
            key (str): 'loss', or a metric.

        Returns:
            list[dict]: Points with 'step', 'epochs' (iterations where those
            are counted), 'seconds', 'samples', 'sgd_steps' and 'value'.
        """
        points = []
        for record, done in accumulate(self.records, self.batch_size):
            if key in record and (key == 'loss' or 'loss' not in record):
                points.append(dict(
                    step=record['step'],
                    epochs=done.iterations / self.epoch_length,
                    seconds=done.seconds, samples=done.samples,
                    sgd_steps=done.sgd_steps, value=float(record[key])))
        return points

    def result(self, metric: str) -> dict[str, Any]:
        """What a finished training reached and cost, as studies have it."""
        curve = [point for point in self.curve(metric)
                 if math.isfinite(point['value'])]
        *_, (_, done) = accumulate(self.records, self.batch_size)
        last = self.steps[-1]
        loaded = last.get('ausam/samples_loaded',
                          self.batch_size * done.iterations)
        return dict(
            value=curve[-1]['value'], curve=curve, seconds=done.seconds,
            sgd_steps=done.sgd_steps, samples_loaded=int(loaded),
            samples_backpropagated=done.samples,
            cost=self.batch_size * done.sgd_steps,
            iterations=done.iterations,
            # Nobody knows what else ran beside it: its seconds are shown,
            # but not compared.
            machine=str(self.path), jobs=1)


def is_training(folder: Path) -> bool:
    """Whether MMEngine's Runner has written into a folder."""
    return any(any(folder.glob(pattern)) for pattern in (
        '*/vis_data/scalars.json', '*/vis_data/config.py', '*/*.log'))


def find_trainings(folder: Path) -> list[Path]:
    """A training's folder, or those that lie in a folder.

    Raises:
        ValueError: If there are none.
    """
    require(folder.is_dir(), f'There is no folder {folder}: name the work_dir '
            'of a training, or a study.')
    require(any(folder.iterdir()), f'{folder} is empty: name the work_dir of '
            'a training, which has a log.')
    if is_training(folder):
        return [folder]
    found = [part for part in sorted(folder.iterdir())
             if part.is_dir() and is_training(part)]
    require(found, f'{folder} is no training: MMEngine has written no log and '
            'no vis_data/scalars.json there; name the work_dir of a training, '
            'or a study.')
    return found


def read_training(folder: Path) -> Training:
    """Reads a training's folder.

    Raises:
        ValueError: If its config cannot be read.
    """
    dumps = [*sorted(folder.glob('*.py')),
             *sorted(folder.glob('*/vis_data/config.py'))]
    require(dumps, f'{folder} has no config: MMEngine writes it as '
            '<time>/vis_data/config.py; copy the whole work_dir.')
    try:
        # The modules that it names need not be here.
        config = Config.fromfile(dumps[-1], import_custom_modules=False)
    except Exception as error:  # of any kind: it is Python
        raise ValueError(f'{dumps[-1]} cannot be read ({error}): put back the '
                         'config that the training was made with.') from error
    return Training(folder.resolve().name, folder, dumps[-1], config,
                    flatten(config.to_dict()), read_scalars(folder),
                    read_log(folder))


def name_apart(trainings: Sequence[Training]) -> None:
    """Gives trainings whose folders are alike the parent's name, too."""
    names = [training.name for training in trainings]
    for training in trainings:
        if names.count(training.name) > 1:
            path = training.path.resolve()
            training.name = f'{path.parent.name}/{path.name}'
