"""What analyze.py's scores and suspects cost, at several sizes of a data set.

Makes up the table of a training and a classification data set with wrong
labels, without images; then each command runs on the table alone, in a process
of its own: scores with --show-number 0, suspects with --no-evaluation. Prints
the processor's time, imports included, and the peak of its memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ausam_mm import SampleHistory
from ausam_mm.analysis.samples import find_samples
from ausam_mm.engine.wrapper import STATE
from ausam_mm.tooling.reports import Row, print_table

COMMANDS = {'scores': ('--show-number', '0'),
            'suspects': ('--no-evaluation', )}
CONFIG = """
custom_imports = dict(imports=['ausam_mm', 'benchmarks.scores_cost'],
                      allow_failed_imports=False)
default_scope = 'mmengine'
optim_wrapper = dict(type='AUSAM', optimizer=dict(type='SGD', lr=0.1))
train_dataloader = dict(
    batch_size=64, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(type='LabelNoise', ratio=0.1, num_classes=100,
                 dataset=dict(type='MadeUpAnnotations', size={size})))
"""


@DATASETS.register_module()
class MadeUpAnnotations(BaseDataset):
    """Paths and labels of images that are not there.

    Args:
        size (int): How many.
    """

    METAINFO = dict(classes=tuple(f'class {i}' for i in range(100)))

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(pipeline=[dict])

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=f'data/train/{i % 100:03d}/{i:09d}.jpg',
                     gt_label=i % 100) for i in range(self.size)]


# Prints what the process took at its end.
CHILD = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print('used', used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def measure(size: int, folder: Path) -> Row:
    """One row: time and memory of each command."""
    config, checkpoint = folder / 'config.py', folder / 'epoch_1.pth'
    config.write_text(CONFIG.format(size=size))
    history = SampleHistory()
    generator = torch.Generator().manual_seed(0)
    dataset = DATASETS.build(dict(type='MadeUpAnnotations', size=size))
    keys = find_samples(dataset, list).keys
    for _ in range(2):
        history.update(keys, torch.rand(size, generator=generator))
    torch.save(dict(state_dict={}, optimizer={STATE: dict(
        history=history.state_dict())}), checkpoint)
    root = Path(__file__).parents[1]
    row = {'samples': f'{size:,}'}
    for name, options in COMMANDS.items():
        result = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', CHILD,
             root / 'tools' / 'analyze.py', name, config, checkpoint,
             '--out', folder / name, *options], cwd=root, text=True,
            capture_output=True,
            env={**os.environ, 'PYTHONPATH': str(root)})
        if result.returncode:
            raise SystemExit(result.stdout + result.stderr)
        seconds, peak = result.stdout.rsplit('used', 1)[1].split()
        row[f'{name}\n[CPU s]'] = f'{float(seconds):.0f}'
        row[f'{name}\n[MiB]'] = f'{int(peak) / 1024:.0f}'  # from KiB
        row[f'{name}\nfiles [MiB]'] = '{:.0f}'.format(sum(
            path.stat().st_size for path in (folder / name).rglob('*')
            if path.is_file()) / 2**20)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--sizes', nargs='+', type=int,
                        default=[10**4, 10**5, 10**6])
    args = parser.parse_args()
    rows = []
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(size, Path(folder)))
    print_table('analyze.py on the table alone', rows)


if __name__ == '__main__':
    main()
