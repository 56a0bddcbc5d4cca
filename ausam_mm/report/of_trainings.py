"""A comparison of trainings by their folders."""

import re
import shlex
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..checks import require
from ..tooling.study_report import Seeds, row_of
from .analyses import find_analyses, read_analysis
from .comparison import Case, Comparison, Cost
from .configs import of_setting
from .curves import Line, mean_of, thin
from .notes import QUIET, environment_of, notes_of, warnings_of
from .runs import Training
from .theory import theory_of

_SEED = re.compile(r'[-_. ]*seed[-_. ]*\d+$')
Groups = dict[str, list[Training]]
Row = dict[str, Any]


def group(trainings: Sequence[Training]) -> Groups:
    """Trainings that differ in their seeds alone, by a name.

    It is that of their folders, without the seed and without what all names
    begin with.
    """
    alike: dict[Any, list[Training]] = {}
    for training in trainings:
        key = frozenset(of_setting(training.settings).items())
        # Twice the same seed is a repetition, not another seed.
        again = sum(other.seed == training.seed
                    for (other_key, _), others in alike.items()
                    if other_key == key for other in others)
        alike.setdefault((key, again), []).append(training)
    names = _short([members[0].name for members in alike.values()])
    return dict(zip(names, alike.values()))


def _short(names: list[str]) -> list[str]:
    """Names without seed, and without what all begin with."""
    bare = [_SEED.sub('', name) or name for name in names]
    names = [name if bare.count(one) > 1 else one
             for one, name in zip(bare, names)]
    parts = [re.findall(r'[^-_ /]*[-_ /]?', name)[:-1] for name in names]
    shared = 0
    while len(names) > 1 and all(len(words) > shared + 1 for words in parts) \
            and len({words[shared] for words in parts}) == 1:
        shared += 1
    return [''.join(words[shared:]) for words in parts]


def pick_metric(trainings: Sequence[Training], wanted: str | None) -> str:
    """The metric that is compared; empty where there is none.

    Args:
        trainings (Sequence[Training]): The trainings.
        wanted (str, optional): The one that someone asked for. Without it,
            the first one of those that most trainings have.

    Raises:
        ValueError: If none has the wanted one.
    """
    number = Counter(metric for training in trainings
                     for metric in training.metrics)
    require(
        wanted is None or wanted in number,
        f'No training has the metric {wanted!r}: there are '
        f'{", ".join(map(repr, number)) or "none"}.')
    if wanted or not number:
        return wanted or ''
    return max(number, key=lambda metric: number[metric])


def compare_trainings(trainings: Sequence[Training],
                      metric: str | None = None,
                      baseline: str | None = None) -> Comparison:
    """Compares trainings.

    Args:
        trainings (Sequence[Training]): The trainings, one or more.
        metric (str, optional): The metric. Defaults to None, for the first
            one that most of them have.
        baseline (str, optional): The setting that differences are to.
            Defaults to None, for the first one without a method.

    Raises:
        ValueError: If none has the metric, or there is no such baseline.
    """
    groups = group(trainings)
    metric = pick_metric(trainings, metric)
    theories = {name: theory_of(members[0].config, members[0].epoch_length)
                for name, members in groups.items()}
    require(baseline is None or baseline in groups,
            f'{baseline!r} is no setting of these trainings: name one of '
            f'{", ".join(map(repr, groups))}.')
    reference = baseline or next(
        (name for name in groups if theories[name].plain), next(iter(groups)))
    rows = _rows(groups, metric, reference)
    values = [value for row in rows for value in row['values'].values()]
    unfinished = sum(not training.finished for training in trainings)
    ratios = {row['setting']: row['cost'] for row in rows}
    notes = [(training.name, note) for training in trainings
             for note in notes_of(training)]
    quiet = len(trainings) - len({name for name, _ in notes})
    return Comparison(
        title=_title(trainings),
        text=[_count(len(groups), 'setting') + ' in '
              + _count(len(trainings), 'training') + (
                  f', {unfinished} of which not finished' if unfinished and
                  len(trainings) > 1 else ', not finished' if unfinished
                  else '') + '.'],
        metric=metric, unit='',
        digits=2 if any(abs(value) > 1.5 for value in values) else 4,
        baseline=reference, settings={
            name: of_setting(members[0].settings)
            for name, members in groups.items()},
        trainings={name: _seeds(members)
                   for name, members in groups.items()},
        cases=[Case('', rows, '', {
            key: _lines(groups, key) for key in (metric, 'loss') if key}, [
                _cost(name, members, theories[name], ratios.get(name))
                for name, members in groups.items()
                if any(training.steps for training in members)])],
        x_title='epochs' if all(
            training.by_epoch for training in trainings) else 'iterations',
        notes=notes,
        quiet=f'{_count(quiet, "training")} {QUIET}' if quiet else '',
        warnings=warnings_of(trainings),
        environment=environment_of(trainings),
        commands=[command_of(training) for training in trainings],
        analyses=[read_analysis(folder) for training in trainings
                  for folder in find_analyses(training.path)])


def _rows(groups: Groups, metric: str, reference: str) -> list[Row]:
    """What the finished of each setting reach, and each unfinished alone.

    The key 'of' names the setting, and 'finished' tells which it is.
    """
    results: dict[str, Seeds] = {reference: {}}
    owners: dict[str, tuple[str, bool]] = {}
    for name, members in groups.items():
        for training in members:
            if metric not in training.metrics or not training.steps:
                continue
            key = name if training.finished else \
                f'{_one_of(name, members, training)}, {training.progress}'
            owners[key] = name, training.finished
            results.setdefault(key, {})[training.seed] = \
                training.result(metric)
    rows = []
    for key, (name, finished) in owners.items():
        row = dict(row_of(key, results, reference, 1.), of=name,
                   finished=finished)
        if not finished:
            row.update(difference=None, cost=None)
        rows.append(row)
    return rows


def _one_of(name: str, members: Sequence[Training],
            training: Training) -> str:
    """The name of a training among those of its setting."""
    return name if len(members) == 1 else f'{name} (seed {training.seed})'


def _lines(groups: Groups, key: str) -> list[Line]:
    """A line of each setting, and of each training that is not finished."""
    found = []
    for name, members in groups.items():
        finished = [thin(training.curve(key)) for training in members
                    if training.finished]
        finished = [points for points in finished if points]
        if finished:
            found.append(Line(name, name, mean_of(finished)))
        for training in members:
            points = [] if training.finished else thin(training.curve(key))
            if points:
                found.append(Line(
                    name, f'{_one_of(name, members, training)}, not finished',
                    points, finished=False))
    return found


def _cost(name: str, members: Sequence[Training], theory: Any,
          ratio: float | None) -> Cost:
    """What the finished trainings of a setting cost, or all until now."""
    finished = [training for training in members if training.finished]
    results = [training.result('loss') for training in finished or members
               if training.steps]
    loader = members[0].config.get('train_dataloader') or {}
    # A batch sampler that selects loads only what it selected.
    full = [members[0].batch_size * result['iterations']
            if loader.get('batch_sampler') else result['samples_loaded']
            for result in results]
    mean = {key: statistics.mean(result[key] for result in results)
            for key in ('samples_loaded', 'samples_backpropagated',
                        'sgd_steps', 'seconds', 'cost')}
    return Cost(
        name, theory, mean['cost'] / statistics.mean(full),
        mean['samples_loaded'], mean['samples_backpropagated'],
        mean['sgd_steps'], mean['seconds'], ratio, finished=bool(finished))


def command_of(training: Training) -> str:
    """What trains it again, from the config that it dumped."""
    words = ['python', 'tools/train.py', str(training.config_path),
             '--work-dir', f'{training.path}-again']
    options = []
    seed = (training.config.get('randomness') or {}).get('seed')
    if seed is None and training.seed >= 0:  # MMEngine took one by chance
        options.append(f'randomness.seed={training.seed}')
    if training.config.get('resume'):
        options.append('resume=False')
    return shlex.join(
        words + (['--cfg-options', *options] if options else []))


def _title(trainings: Sequence[Training]) -> str:
    """The name of the only training, or of the folder of all."""
    first = trainings[0]
    if len(trainings) == 1:
        return first.name
    folders = {training.path.resolve().parent for training in trainings}
    return folders.pop().name if len(folders) == 1 else \
        f'{first.name} and {len(trainings) - 1} more'


def _seeds(members: Sequence[Training]) -> str:
    """The seeds of a setting's trainings, and which are not finished."""

    def words(training: Training) -> str:
        seed = f'{training.seed}' if training.seed >= 0 else 'unknown'
        return seed if training.finished else f'{seed} ({training.progress})'

    return ('seeds ' if len(members) > 1 else 'seed ') + ', '.join(
        map(words, members))


def _count(number: int, word: str) -> str:
    return f'{number} {word}{"s" * (number != 1)}'
