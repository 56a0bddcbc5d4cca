"""The trainings of a study, some side by side, each in a process."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from mmengine.config import Config

from .reports import processor
from .results import Done, Record, accumulate, read_scalars, summarize
from .settings import epoch_size
from .studies import Result, Run, Study, write

# One thread; and glibc keeps the memory of large maps. Else it returns it to
# the kernel after each layer, which clears it anew.
CPU_ENVIRONMENT = dict(
    OMP_NUM_THREADS='1', MALLOC_MMAP_THRESHOLD_='1073741824',
    MALLOC_TRIM_THRESHOLD_='1073741824')


@dataclass
class Training:
    """A process that trains a run.

    Attributes:
        run (Run): The run.
        fingerprint (str): That of its config.
        cfg (Config): The config.
        process (Popen): The process.
        lock (TextIO): Its file is locked until process and study have ended.
        slot (int): Which of the jobs it is.
    """
    run: Run
    fingerprint: str
    cfg: Config
    process: subprocess.Popen[bytes]
    lock: TextIO
    slot: int


class Trainings:
    """Trains runs, and writes the result of each at once.

    A run that another process trains, such as one that a killed study left
    behind, is waited for.

    Args:
        study (Study): The study.
        train (Path): The file tools/train.py.
        work_dir (Path): Folder of checkpoints and logs.
        jobs (int): How many runs are trained side by side: with a thread
            each on a CPU, unless ``OMP_NUM_THREADS`` is set, or a GPU each.
        flags (Sequence[str]): Further arguments of tools/train.py. Defaults
            to none.
        again (bool): Whether runs with a result are trained, too: their
            checkpoints may be on another machine. Defaults to False.

    Raises:
        SystemExit: If there are GPUs, but fewer than jobs.
    """

    def __init__(self, study: Study, train: Path, work_dir: Path, jobs: int,
                 flags: Sequence[str] = (), again: bool = False) -> None:
        self.study, self.train, self.work_dir = study, train, work_dir
        self.jobs, self.flags, self.again = jobs, flags, again
        self.failures: list[str] = []
        self._gpus = visible_gpus()
        if self._gpus and jobs > len(self._gpus):
            raise SystemExit(
                f'--jobs {jobs} needs a GPU each, and there are '
                f'{len(self._gpus)}: take fewer, or set '
                'CUDA_VISIBLE_DEVICES= to train on the CPU.')
        self._noted: set[tuple[str, Run]] = set()

    def train_all(self, runs: Iterable[Run]) -> None:
        """Trains what is not finished; ``failures`` has what went wrong."""
        waiting = deque(run for run in runs if not self._is_finished(run))
        free = list(range(self.jobs))
        active: list[Training] = []
        try:
            while waiting or active:
                for _ in range(min(len(waiting), len(free))):
                    run = waiting.popleft()
                    if self._is_finished(run):  # by another process
                        continue
                    training = self.start(run, free[0])
                    if training:
                        active.append(training)
                        free.pop(0)
                    else:
                        waiting.append(run)
                time.sleep(0.5)
                for training in [training for training in active
                                 if training.process.poll() is not None]:
                    active.remove(training)
                    free.append(training.slot)
                    if not self.finish(training):
                        waiting.appendleft(training.run)
                    training.lock.close()
        finally:
            for training in active:
                training.process.terminate()
            for training in active:
                training.process.wait()

    def _is_finished(self, run: Run) -> bool:
        return not self.again and self.study.result_of(run) is not None

    def folder(self, run: Run) -> Path:
        """Where a run's training writes."""
        return self.work_dir / run.name

    def command(self, run: Run) -> list[str]:
        """What trains a run, or goes on with it."""
        return [sys.executable, '-W', 'ignore', str(self.train),
                f'{self.folder(run)}.py', '--work-dir', str(self.folder(run)),
                '--resume', *self.flags]

    def start(self, run: Run, slot: int) -> Training | None:
        """Starts a run, or returns None where another process trains it."""
        folder = self.folder(run)
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open(f'{folder}.lock', 'w')  # noqa: SIM115  the child's, too
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            if self._is_new('wait', run):
                print(f'{run}: waits for the process that trains it',
                      flush=True)
            return None
        cfg = self.study.config_of(run)
        fingerprint = self.study.fingerprint(cfg)
        trained = folder / 'fingerprint'
        if not trained.exists() or trained.read_text() != fingerprint:
            shutil.rmtree(folder, ignore_errors=True)
            write(trained, fingerprint)
        cfg.dump(f'{folder}.py')
        env = dict(os.environ)
        if self._gpus:
            env['CUDA_VISIBLE_DEVICES'] = self._gpus[slot]
        else:
            for name, value in CPU_ENVIRONMENT.items():
                env.setdefault(name, value)
        print(f'{run}: {folder}', flush=True)
        with open(folder / 'output.txt', 'a') as output:
            # Whoever has the file open keeps the lock: the study and, where
            # that is killed, its training.
            process = subprocess.Popen(
                self.command(run), env=env, stdout=output,
                stderr=subprocess.STDOUT, pass_fds=(lock.fileno(), ))
        return Training(run, fingerprint, cfg, process, lock, slot)

    def finish(self, training: Training) -> bool:
        """Writes a run's result; returns whether the run is over."""
        run, folder = training.run, self.folder(training.run)
        metric = self.study.metric
        records = read_scalars(folder)
        kinds = ['loss' if 'loss' in record else
                 metric if metric in record else '' for record in records]
        failure = ''
        if code := training.process.returncode:
            log = folder / 'output.txt'
            last = log.read_text(errors='replace').splitlines()[-1:]
            failure = '\n  '.join([
                f'The training of {run} failed with code {code}: the whole '
                f'log is {log}.', *last])
        elif not kinds or kinds[-1] != metric:
            if metric not in kinds and '' in kinds:
                failure = (
                    f'{folder} has no metric {metric!r}: set metric to one of '
                    f'{sorted({k for r in records for k in r})}.')
            elif self._is_new('restart', run):
                # It was killed between the last checkpoint and the metric.
                shutil.rmtree(folder)
                return False
            else:
                failure = (f'{folder} has no metric after the last iteration: '
                           'let the config validate at the end.')
        if failure:
            self.failures.append(failure)
            print(failure, flush=True)
            return True
        result = dict(
            case=run.case, setting=run.setting, seed=run.seed,
            fingerprint=training.fingerprint, machine=self.machine(
                training.slot), jobs=self.jobs,
            **measure(
                records, metric,
                training.cfg.train_dataloader.get('batch_size', 1),
                self.epoch_size(training.cfg, records)))
        self.study.write_result(run, result)
        print(f'{run}: {self.study.factor * result["value"]:.2f} in '
              f'{result["seconds"]:.0f} s', flush=True)
        return True

    def epoch_size(self, cfg: Config, records: list[Record]) -> int | None:
        """Samples of an epoch, where the wrapper counts none."""
        counted = any('ausam/sgd_steps' in record for record in records)
        if counted or 'max_epochs' not in cfg.train_cfg \
                or cfg.train_dataloader.get('drop_last'):
            return None
        return epoch_size(cfg, self.study.num_samples)

    def machine(self, slot: int) -> str:
        """A line on what trains in a slot."""
        device = torch.cuda.get_device_name(slot) if self._gpus else \
            f'{processor()}, threads: {os.environ.get("OMP_NUM_THREADS", 1)}'
        return f'{device}, torch {torch.__version__}'

    def _is_new(self, what: str, run: Run) -> bool:
        new = (what, run) not in self._noted
        self._noted.add((what, run))
        return new


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them."""
    number = torch.cuda.device_count()
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    return named.split(',')[:number] if named and number else [
        str(i) for i in range(number)]


def measure(records: list[Record], metric: str, batch_size: int,
            epoch_size: int | None = None) -> Result:
    """What a run reached and cost, from its scalars.

    The cost is the wrapper's own count, in steps of SGD on full batches. For
    one that counts nothing it is that of the samples that were loaded.
    """
    curve = []
    done = Done()
    for record, done in accumulate(records, batch_size, epoch_size):
        if 'loss' not in record and metric in record:
            curve.append(dict(
                step=record['step'], sgd_steps=done.sgd_steps,
                seconds=round(done.seconds, 2), value=record[metric]))
    row = summarize(records, metric, 1., done.samples)
    return dict(value=row.pop('accuracy'), sgd_steps=done.sgd_steps, **row,
                curve=curve)
