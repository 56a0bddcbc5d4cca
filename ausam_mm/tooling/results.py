"""What a training wrote."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read_scalars(work_dir: Path) -> list[Record]:
    """The lines of all scalars.json of a run, as far as they are written.

    A resumed run has several files; where it repeats iterations, the later
    file counts.
    """
    records: list[Record] = []
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        lines = []
        for line in file.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:  # the last line, while it is written
                break
        start = next((r['step'] for r in lines if 'loss' in r), None)
        repeated = (i for i, r in enumerate(records)
                    if 'loss' in r and start is not None
                    and r['step'] >= start)
        # Lines of a validation count epochs, so that their place tells.
        records = records[:next(repeated, None)] + lines
    return records


@dataclass(frozen=True)
class Done:
    """How much of a training was done.

    Attributes:
        iterations (int): Iterations.
        seconds (float): Seconds of training and loading, without validation.
        sgd_steps (int): The wrapper's count of its cost, in steps of SGD on
            full batches, or that of the samples that were loaded.
        samples (int): Samples back-propagated; each pass counts.
    """
    iterations: int = 0
    seconds: float = 0.
    sgd_steps: int = 0
    samples: int = 0


def accumulate(records: list[Record], batch_size: int,
               epoch_size: int | None = None
               ) -> Iterator[tuple[Record, Done]]:
    """Each line of a log, and what was done until then.

    A line of the training stands for the iterations since the one before.

    Args:
        records (list[dict]): The lines.
        batch_size (int): Samples of a batch, where nothing counts them.
        epoch_size (int, optional): Samples of an epoch, whose last batch has
            what is left. Defaults to None, for full batches.
    """
    done = Done()
    batch_size = min(batch_size, epoch_size or batch_size)
    for record in records:
        if 'loss' in record:
            iterations: int = record['step']
            loaded = _loaded(iterations, batch_size, epoch_size)
            done = Done(
                iterations,
                done.seconds + record['time'] * (iterations - done.iterations),
                int(record.get(
                    'ausam/sgd_steps', round(loaded / batch_size))),
                int(record.get('ausam/samples_backpropagated', loaded)))
        yield record, done


def _loaded(iterations: int, batch_size: int, epoch_size: int | None) -> int:
    """Samples of so many batches."""
    if epoch_size is None:
        return batch_size * iterations
    epochs, left = divmod(iterations, math.ceil(epoch_size / batch_size))
    return epochs * epoch_size + left * batch_size


def summarize(records: list[Record], metric: str, factor: float,
              num_samples: int) -> Record:
    """One row of a table, from a run's scalars.

    Accuracy in percent (the metric times ``factor``), seconds of training
    without validation, samples loaded (``num_samples`` where nothing counts
    them) and samples back-propagated: each pass counts.
    """
    steps = [r for r in records if 'loss' in r]
    loaded: int = steps[-1].get('ausam/samples_loaded', num_samples)
    return dict(
        accuracy=factor * [r[metric] for r in records if metric in r][-1],
        seconds=sum(r['time'] for r in steps),
        samples_loaded=int(loaded),
        samples_backpropagated=int(
            steps[-1].get('ausam/samples_backpropagated', loaded)))
