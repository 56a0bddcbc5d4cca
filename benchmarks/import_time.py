"""What `import ausam_mm` costs beyond MMEngine, in fresh processes.

Processor time of whole processes, one kind after the other, so that another
load on the machine meets all of them. `import mmengine` alone loads no
PyTorch; `mmengine.runner` is what every training imports.
"""

import argparse
import os
import statistics
import subprocess
import sys

IMPORTS = ('mmengine', 'mmengine.runner', 'mmengine.runner, ausam_mm')


def seconds(modules: str) -> float:
    """Processor time of a process that imports ``modules``."""
    before = os.times()
    subprocess.run([sys.executable, '-c', f'import {modules}'], check=True)
    after = os.times()
    return (after.children_user + after.children_system -
            before.children_user - before.children_system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=9)
    args = parser.parse_args()
    for modules in IMPORTS:  # files are read into memory
        seconds(modules)
    rounds = [[seconds(modules) for modules in IMPORTS]
              for _ in range(args.rounds)]
    print('| import | processor time (s), median |\n|---|---|')
    for modules, times in zip(IMPORTS, zip(*rounds)):
        print(f'| `import {modules}` | {statistics.median(times):.2f} |')
    more = [ours - runner for _, runner, ours in rounds]
    print(f'\nausam_mm beyond mmengine.runner: {statistics.median(more):.2f} '
          f's (median of {len(more)} pairs, {min(more):.2f} to '
          f'{max(more):.2f} s)')


if __name__ == '__main__':
    main()
