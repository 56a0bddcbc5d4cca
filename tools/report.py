"""Shows trainings and studies in one HTML file that needs no network.

RUN is the work_dir of a training, a folder of such folders, a study as those
in studies/, or the folder of its results. Trainings that differ in their seeds
alone are one setting. The page has the settings that differ, accuracy with
intervals over seeds, curves over epochs, seconds, samples and SGD steps, cost
against theory, what was skipped, resumed or warned of, what analyze.py found
in the folders, and versions and commands.
"""

import argparse
import shlex
import sys
from pathlib import Path

from ausam_mm.report.command import compare, write_page


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN',
                        help='a work_dir, a folder of some, a study, or its '
                        'results')
    parser.add_argument('--out', type=Path, help='the file; the default is\n'
                        'work_dirs/report/<first run>.html')
    parser.add_argument('--analysis', nargs='+', type=Path, default=[],
                        metavar='FOLDER', help='what analyze.py wrote '
                        'elsewhere than in a RUN')
    parser.add_argument('--metric', help='the metric of trainings; the '
                        'default is the first\nthat most of them have')
    parser.add_argument('--baseline', metavar='SETTING',
                        help='what differences of trainings are to; the '
                        'default is\nthe first one without a method')
    parser.add_argument('--work-dir', type=Path,
                        help='where the trainings of a study wrote; the '
                        'default is\nwork_dirs/studies/<study>')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    name = args.runs[0].resolve().name.removesuffix('.py')
    out = args.out or Path('work_dirs/report', f'{name}.html')
    try:
        comparisons = compare(args.runs, args.metric, args.baseline,
                              args.work_dir)
        write_page(comparisons, args.analysis, out,
                   shlex.join(['python', *sys.argv]))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(f'Written to {out}, {out.stat().st_size / 1e6:.1f} MB.')


if __name__ == '__main__':
    main()
