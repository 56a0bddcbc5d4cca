"""What a training wrote."""

import json
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
