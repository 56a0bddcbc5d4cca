"""Trains digits with wrong labels, poses, and such digits in 4 bits.

Three small studies, studies/demo_*.py, with a seed each and two trainings side
by side: the base optimizer, SAM, AUSAM and what else is at the base
optimizer's cost. What is finished is not trained again. A report of all three
is written as one HTML file, work_dirs/demo/report.html.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from ausam_mm.report.command import write_studies
from ausam_mm.tooling.reports import console
from ausam_mm.tooling.studies import read_study
from ausam_mm.tooling.study_report import print_report, write_report
from ausam_mm.tooling.trainings import Trainings, visible_gpus

ROOT = Path(__file__).resolve().parents[1]
# The last one starts from a model that the first one trains.
STUDIES = ('demo_digits', 'demo_poses', 'demo_quantized')
WORK_DIR = Path('work_dirs/demo')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--fresh', action='store_true', help='train what is finished again')
    args = parser.parse_args()
    for name in ('digits', 'figures'):
        subprocess.run([
            sys.executable,
            ROOT / 'tools' / 'dataset_converters' / f'{name}.py'
        ], check=True)
    if args.fresh:
        shutil.rmtree(WORK_DIR, ignore_errors=True)
    jobs = min(2, len(visible_gpus()) or 2)
    studies = []
    for name in STUDIES:
        study = read_study(ROOT / 'studies' / f'{name}.py',
                           results=WORK_DIR / 'results' / name)
        trainings = Trainings(
            study, ROOT / 'tools' / 'train.py', WORK_DIR / name, jobs)
        trainings.train_all(study.runs())
        if trainings.failures:
            raise SystemExit('\n'.join(trainings.failures))
        write_report(study)
        print_report(study, legend=name == STUDIES[-1])
        studies.append(study)
    report = WORK_DIR / 'report.html'
    try:
        write_studies(studies, [WORK_DIR / name for name in STUDIES], report,
                      'python tools/demo.py')
    except ValueError as error:
        raise SystemExit(str(error)) from error
    console().print(
        'One seed each, for a look. The same with five seeds and intervals, '
        'and where SAM gains nothing: docs/results.md, docs/choosing.md. In '
        "your own config: custom_imports = dict(imports=['ausam_mm']) and "
        "optim_wrapper = dict(type='AUSAM', ...).",
        soft_wrap=True, markup=False)
    print(f'Curves, costs and settings of all three: {report}')


if __name__ == '__main__':
    main()
