"""A comparison of what a study has found, from its results."""

import os
import shlex
from pathlib import Path
from typing import Any

from ..checks import require
from ..tooling.studies import Result, Run, Study, read_study
from ..tooling.study_report import summarize_study, tables
from .comparison import Case, Comparison, Cost
from .configs import flatten, of_setting
from .curves import Line, Point, mean_of
from .notes import QUIET, environment_of, notes_of, warnings_of
from .runs import Training, is_training, read_training
from .theory import theory_of


def is_study(path: Path) -> bool:
    """Whether it is a study's file, or its results' folder."""
    return path.suffix == '.py' or any((path / 'runs').glob('*.json'))


def find_study(path: Path) -> Study:
    """The study of a file, or of the folder of its results.

    Raises:
        ValueError: If there is no file for a folder.
        SystemExit: If the file is no study.
    """
    if path.suffix == '.py':
        return read_study(path)
    name = path.resolve().name
    above = Path(os.path.relpath(path.resolve().parent.parent))
    places = [above / f'{name}.py', Path('studies') / f'{name}.py']
    file = next((place for place in places if place.is_file()), None)
    require(file, f'{path} are the results of a study whose file is not '
            f'there: put {name}.py into the folder above results/, or name '
            'the file.')
    assert file is not None
    return read_study(file, results=path)


def compare_study(study: Study, work_dir: Path | None = None) -> Comparison:
    """Compares the settings of a study.

    Args:
        study (Study): The study.
        work_dir (Path, optional): Where its trainings wrote; what is there
            tells of warnings and versions. Defaults to None, for
            work_dirs/studies/<study>.

    Raises:
        ValueError: If no run is finished.
    """
    summary = summarize_study(study)
    results = {run: result for run in study.runs()
               if (result := study.result_of(run))}
    require(results, f'No run of {study.path} is finished: run '
            f'{command(study)} first.')
    there = [case for case in summary['cases'] if case['rows']]
    verdicts = [verdict for _, _, verdict in tables(study, summary)]
    first = there[0]['case']
    text = [study.question]
    if summary['finished'] < summary['runs']:
        text.append(f'{summary["finished"]} of {summary["runs"]} runs are '
                    'finished.')
    settings = list(dict.fromkeys(
        row['setting'] for case in there for row in case['rows']))
    trainings = _trainings(
        results, work_dir or Path('work_dirs/studies', study.name))
    missing = len(results) - len(trainings)
    notes = [(training.name, note) for training in trainings
             for note in notes_of(training)]
    quiet = len(trainings) - len({name for name, _ in notes})
    quietly = [f'{quiet} training{"s" * (quiet != 1)} {QUIET}'] if quiet \
        else []
    if missing:
        quietly.append(
            f'Of {missing} trainings the folder is not here: a result tells '
            'nothing of warnings and resumes. All of them reached their end.')
    return Comparison(
        title=study.name,
        text=[*text, *([f'Reading: {study.reading}'] if study.reading
                       else [])],
        metric=study.metric, unit='%', digits=2, baseline=study.reference,
        settings={name: of_setting(flatten(study.config_of(
            Run(first, name, study.seeds[0])).to_dict()))
            for name in settings},
        trainings={name: _seeds(name, there) for name in settings},
        cases=[_case(study, results, case, verdict)
               for case, verdict in zip(there, verdicts)],
        notes=notes, quiet=' '.join(quietly),
        warnings=warnings_of(trainings),
        environment=[('machine', machine) for machine in summary['machines']]
        + environment_of(trainings),
        commands=[command(study)])


def command(study: Study) -> str:
    """What runs the study, or what is missing of it."""
    return shlex.join(['python', 'tools/study.py', str(study.path)])


def _seeds(setting: str, cases: list[dict[str, Any]]) -> str:
    """Which seeds there are; in several cases how many."""
    there = [list(row['values']) for case in cases for row in case['rows']
             if row['setting'] == setting]
    if len(cases) == 1:
        return f'seeds {", ".join(map(str, there[0]))}'
    return f'{sum(map(len, there))} in {len(there)} of {len(cases)} cases'


def _case(study: Study, results: dict[Run, Result], case: dict[str, Any],
          verdict: str) -> Case:
    lines, costs = [], []
    for row in case['rows']:
        run = Run(case['case'], row['setting'], study.seeds[0])
        cfg = study.config_of(run)
        batch = cfg.train_dataloader.get('batch_size', 1)
        lines.append(Line(row['setting'], row['setting'], mean_of([
            _curve(results[Run(case['case'], row['setting'], seed)],
                   study.factor)
            for seed in row['values']])))
        costs.append(Cost(
            row['setting'], theory_of(cfg),
            # A batch sampler that selects loads only what it selected.
            None if cfg.train_dataloader.get('batch_sampler') else
            batch * row['sgd_steps'] / row['samples_loaded'],
            row['samples_loaded'], row['samples_backpropagated'],
            row['sgd_steps'], row['seconds'], row['cost'], row['time']))
    rows = [dict(row, of=row['setting'], finished=True)
            for row in case['rows']]
    return Case(case['case'], rows, verdict, {study.metric: lines}, costs)


def _curve(result: Result, factor: float) -> list[Point]:
    """The validations of a run."""
    # Exact for methods that score no samples; others do so evenly.
    samples = result['samples_backpropagated'] / (result['sgd_steps'] or 1)
    return [dict(point, epochs=point['step'],
                 samples=round(samples * point['sgd_steps']),
                 value=factor * point['value'])
            for point in result['curve']]


def _trainings(results: dict[Run, Result], work_dir: Path) -> list[Training]:
    """The trainings of results, as far as their folders are here."""
    found = []
    for run, result in results.items():
        folder = work_dir / run.name
        mark = folder / 'fingerprint'
        if is_training(folder) and mark.is_file() \
                and mark.read_text() == result['fingerprint']:
            found.append(read_training(folder))
            found[-1].name = str(run)
    return found
