"""Runs a study: trains its settings with its seeds, and compares them.

A study is a Python file with a question and settings of a config, as those in
studies/. A run that is finished is not run again, and one that was interrupted
goes on, bit for bit on a CPU, so the command can be stopped at any time. What
is changed in the file makes its own runs stale, and no others.

Beside the study's file, in results/<study>/, lie runs/*.json, which each
finished run writes at once, a table (table.md), figures (figure.png, cost.png)
and everything as JSON (summary.json). Commit them: a study goes on from there
on another machine. Checkpoints and logs are in --work-dir.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ausam_mm.tooling.plan import plan, print_plan
from ausam_mm.tooling.runner import add_trust
from ausam_mm.tooling.settings import positive, usable
from ausam_mm.tooling.studies import Run, Study, read_study
from ausam_mm.tooling.study_report import print_report, write_report
from ausam_mm.tooling.trainings import Trainings

TRAIN = Path(__file__).resolve().with_name('train.py')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('study', type=Path, help='a file, as in studies/')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--list', action='store_true',
                      help='print a command for each run that is not '
                      'finished,\nfor slurm, and train nothing')
    what.add_argument('--slurm', action='store_true',
                      help='print a job array for sbatch, a task for each of '
                      'them')
    what.add_argument('--plan', action='store_true',
                      help='print what is left to run, its cost, and the '
                      'hours that it\ntakes here by a few timed steps')
    what.add_argument('--report', action='store_true',
                      help='write table, figure and JSON of what is there')
    parser.add_argument('--jobs', type=positive, default=1,
                        help='trainings side by side (1): a thread each on a '
                        'CPU,\na GPU each otherwise')
    parser.add_argument('--only', nargs='+', metavar='SETTING',
                        help='train these settings')
    parser.add_argument('--cases', nargs='+', metavar='CASE',
                        help='train in these cases')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='SEED',
                        help='train with these seeds')
    parser.add_argument('--again', action='store_true',
                        help='train runs that have a result, too, unless '
                        'their checkpoints\nare in --work-dir')
    parser.add_argument('--scale', help='a smaller form of the study, by its '
                        'name in the\nfile; its results lie in a folder '
                        'below')
    parser.add_argument('--work-dir', type=Path,
                        help='the default is work_dirs/studies/<study>')
    parser.add_argument('--device', type=usable, default='cuda' if
                        torch.cuda.is_available() else 'cpu',
                        help='of --plan; the default is cuda where there is '
                        'a GPU')
    add_trust(parser)
    return parser.parse_args()


def chosen(study: Study, args: argparse.Namespace) -> list[Run]:
    """The runs that the command line names, or all."""

    def check(flag: str, wanted: list[Any] | None,
              known: Iterable[Any]) -> list[Any]:
        for one in wanted or ():
            if one not in known:
                raise SystemExit(f'{flag} {one!r} is not in {study.path}: '
                                 f'take {", ".join(map(repr, known))}.')
        return wanted or list(known)

    settings = check('--only', args.only, study.settings)
    cases = check('--cases', args.cases, study.cases)
    seeds = check('--seeds', args.seeds, study.seeds)
    return [run for run in study.runs() if run.setting in settings
            and run.case in cases and run.seed in seeds]


def command_of(run: Run, args: argparse.Namespace) -> str:
    """What trains a run alone, and writes its result."""
    words: list[Any] = ['python', sys.argv[0], args.study, '--only',
                        run.setting, '--seeds', run.seed]
    if run.case:
        words += ['--cases', run.case]
    if args.scale:
        words += ['--scale', args.scale]
    if args.work_dir:
        words += ['--work-dir', args.work_dir]
    if args.again:
        words.append('--again')
    if args.trust_checkpoint:
        words.append('--trust-checkpoint')
    return shlex.join(map(str, words))


def job_array(commands: Sequence[str], name: str) -> str:
    """A script for sbatch: each task has a GPU and a run of its own."""
    return '\n'.join([
        '#!/bin/bash', f'#SBATCH --job-name={name}',
        f'#SBATCH --array=0-{len(commands) - 1}',
        '#SBATCH --gres=gpu:1', '#SBATCH --cpus-per-task=6',
        '# A task that is stopped goes on where it was.',
        '#SBATCH --requeue', '', "commands=$(cat <<'END'", *commands, 'END',
        ')', 'number=$((SLURM_ARRAY_TASK_ID + 1))',
        'eval "srun $(sed -n "${number}p" <<< "$commands")"'])


def main() -> None:
    args = parse_args()
    study = read_study(args.study)
    if args.scale:
        study = study.scaled(args.scale)
    runs = chosen(study, args)
    study.check()
    if args.plan:
        print_plan(study, plan(study, runs, args.device), args.device)
        return
    if args.list or args.slurm:
        commands = [command_of(run, args) for run in runs
                    if args.again or not study.result_of(run)]
        if args.slurm and not commands:
            raise SystemExit('All runs are finished: nothing to submit.')
        print(job_array(commands, study.name) if args.slurm
              else '\n'.join(commands))
        return
    failures = []
    if not args.report:
        # So that the trainings are stopped, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        trainings = Trainings(
            study, TRAIN, args.work_dir or Path(
                'work_dirs/studies', study.name, args.scale or ''), args.jobs,
            ['--trust-checkpoint'] * args.trust_checkpoint, args.again)
        trainings.train_all(runs)
        failures = trainings.failures
    if any(study.result_of(run) for run in study.runs()):
        write_report(study)
        print_report(study)
    elif args.report:
        raise SystemExit(f'No run of {study.path} is finished: run the study '
                         'without --report.')
    if failures:
        raise SystemExit('\n'.join(failures))


if __name__ == '__main__':
    main()
