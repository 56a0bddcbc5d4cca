"""Step time and peak memory of optimizer wrappers, side by side.

Times are interleaved (A B C A B C ...) and compared in pairs: each wrapper's
step against the plain wrapper's step of the same round. Data are made up; the
warm-up epoch is over when timing starts. Peak memory is that of a process of
its own for each wrapper (resident set; on CPU, where Linux tells it).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))
import ausam_mm  # noqa: E402, F401

ROUND = dict(warmup_iters=1, ramp_epochs=0)
WRAPPERS = {
    'plain': dict(type='OptimWrapper'),
    'SAM': dict(type='SAM'),
    'AUSAM(0.5)': dict(type='AUSAM', alpha=0.5, **ROUND),
    'AUSAM(0.6)': dict(type='AUSAM', alpha=0.6, **ROUND),
    'AUSAM(0.25, 0.75)': dict(type='AUSAM', alpha=(0.25, 0.75), **ROUND),
}
CASES = ('resnet_cifar', 'simcc')


def make_classifier(batch_size: int) -> tuple:
    """ResNet_CIFAR-18 with 16 base channels, and a batch of 32x32 images."""
    init_default_scope('mmpretrain')
    from mmpretrain.structures import DataSample
    cfg = Config.fromfile(
        ROOT / 'configs/_base_/models/resnet18-c16_cifar.py').model
    cfg.head.loss = dict(type='CrossEntropyLoss')
    model = MODELS.build(cfg)
    samples = [
        DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i % 10)
        for i in range(batch_size)
    ]
    return model, dict(
        inputs=torch.randn(batch_size, 3, 32, 32), data_samples=samples)


def make_simcc(batch_size: int) -> tuple:
    """SimCC on ResNet-18, and a batch of 128x96 images with 17 joints."""
    init_default_scope('mmpose')
    from mmengine.structures import InstanceData
    from mmpose.structures import PoseDataSample
    size = (96, 128)
    codec = dict(type='SimCCLabel', input_size=size, sigma=4.9)
    model = MODELS.build(
        dict(
            type='mmpose.TopdownPoseEstimator',
            data_preprocessor=dict(type='PoseDataPreprocessor'),
            backbone=dict(type='ResNet', depth=18),
            head=dict(
                type='SimCCHead',
                in_channels=512,
                out_channels=17,
                input_size=size,
                in_featuremap_size=(3, 4),
                deconv_out_channels=None,
                decoder=codec)))
    from mmpose.registry import KEYPOINT_CODECS
    encoder = KEYPOINT_CODECS.build(codec)
    samples = []
    for i in range(batch_size):
        joints = torch.rand(1, 17, 2).numpy() * size
        encoded = encoder.encode(joints, torch.ones(1, 17).numpy())
        sample = PoseDataSample(metainfo=dict(id=i))
        sample.gt_instance_labels = InstanceData(**{
            name: encoded[name]
            for name in ('keypoint_x_labels', 'keypoint_y_labels',
                         'keypoint_weights')
        }).to_tensor()
        samples.append(sample)
    return model, dict(
        inputs=list(torch.randn(batch_size, 3, size[1], size[0])),
        data_samples=samples)


def make(case: str, wrapper: str, args: argparse.Namespace) -> tuple:
    """A model, its batch and its wrapper."""
    torch.manual_seed(args.seed)
    model, data = dict(
        resnet_cifar=make_classifier, simcc=make_simcc)[case](
            args.batch_size)
    model.train().to(args.device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    return model, data, OPTIM_WRAPPERS.build(
        dict(WRAPPERS[wrapper]), default_args=dict(optimizer=optimizer))


def step(model, data: dict, wrapper, device: str) -> float:
    """Seconds of one training step."""
    start = time.perf_counter()
    model.train_step(dict(data), wrapper)
    if device != 'cpu':
        torch.get_device_module(device).synchronize()
    return time.perf_counter() - start


def time_steps(case: str, args: argparse.Namespace) -> Dict[str, list]:
    """Interleaved step times of each wrapper, in seconds."""
    setups = {name: make(case, name, args) for name in args.wrappers}
    for setup in setups.values():
        for _ in range(args.warmup):
            step(*setup, args.device)
    times = {name: [] for name in setups}
    for _ in track(range(args.steps), case):
        for name, setup in setups.items():
            times[name].append(step(*setup, args.device))
    return times


def peak_memory(case: str, name: str, args: argparse.Namespace) -> float:
    """Peak memory in MiB of a process that trains a few steps."""
    command = [
        sys.executable, '-W', 'ignore', __file__, '--cases', case,
        '--wrappers', name, '--batch-size', str(args.batch_size),
        '--device', args.device, '--seed', str(args.seed), '--only-memory'
    ]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True,
        # Freed memory goes back at once, so that the peak is the step's.
        env={**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536'}).stdout
    return float(output.split()[-1])


def print_memory(args: argparse.Namespace) -> None:
    """Trains a few steps and prints what they took above the set-up."""
    setup = make(args.cases[0], args.wrappers[0], args)
    if args.device != 'cpu':
        device = torch.get_device_module(args.device)
        device.reset_peak_memory_stats()
        for _ in range(4):
            step(*setup, args.device)
        print(device.max_memory_allocated() / 2**20)
        return
    # The first, whole batch of AUSAM's warm-up must not count: it is seen
    # with a batch of two samples.
    model, data, wrapper = setup
    small = {key: value[:2] for key, value in data.items()}
    for batch in (small, data, data, data):
        step(model, batch, wrapper, 'cpu')
    # Not ru_maxrss: a child starts with its parent's.
    status = Path('/proc/self/status').read_text()
    peak = next(line for line in status.splitlines() if 'VmHWM' in line)
    print(int(peak.split()[1]) / 1024)


def machine() -> str:
    """A line that names processor, cores and torch."""
    name = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.exists():
        names = [line.split(':')[1].strip()
                 for line in info.read_text().splitlines()
                 if line.startswith('model name')]
        name = names[0] if names else name
    return (f'{name}, {torch.get_num_threads()} threads, '
            f'torch {torch.__version__}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--cases', nargs='+', choices=CASES, default=list(CASES))
    parser.add_argument(
        '--wrappers', nargs='+', choices=list(WRAPPERS),
        default=list(WRAPPERS))
    parser.add_argument('--steps', type=int, default=20, help='rounds')
    parser.add_argument('--warmup', type=int, default=3)
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--device', default='cpu', help='cpu, cuda, ...')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, help='JSON file for the figures')
    parser.add_argument('--only-memory', action='store_true',
                        help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_memory:
        print_memory(args)
        return
    console = Console(width=100)
    console.print(machine())
    results = {}
    for case in args.cases:
        times = time_steps(case, args)
        first = args.wrappers[0]
        table = Table(title=f'{case}, batch {args.batch_size}, '
                      f'{args.steps} interleaved rounds')
        for name in ('wrapper', 'step [ms]', f'ratio to {first}', 'quartiles',
                     'peak memory [MiB]'):
            table.add_column(name, justify='right')
        for name in args.wrappers:
            ratios = [a / b for a, b in zip(times[name], times[first])]
            low, median, high = statistics.quantiles(ratios, n=4)
            row = results[f'{case}, {name}'] = dict(
                milliseconds=1000 * statistics.median(times[name]),
                ratio=median,
                quartiles=[low, high],
                peak_mib=peak_memory(case, name, args))
            table.add_row(name, f'{row["milliseconds"]:.0f}',
                          f'{median:.2f}', f'{low:.2f} - {high:.2f}',
                          f'{row["peak_mib"]:.0f}')
        console.print(table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps(dict(machine=machine(), results=results), indent=2))


if __name__ == '__main__':
    main()
