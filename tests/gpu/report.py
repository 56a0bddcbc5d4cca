"""Step time, peak memory and host waits on a GPU, for docs/gpu.md.

Steps of OptimWrapper, SAM and AUSAM as MMEngine's loop runs them, with the
batch in the host's memory, in single and mixed precision. Times are of CUDA
events, interleaved, and compared in pairs. Memory is that of the steps after
AUSAM's warm-up. Host waits are the times that Python waits for the GPU in a
step from the first layer on, counted by the profiler: before the optimizer's
step, and from there on.

`make gpu` runs it after the tests that are marked gpu. `--device cpu --quick`
runs the same code on a small model, which measures nothing.
"""

import argparse
import gc
import math
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch.profiler import ProfilerActivity, profile

from ausam_mm import set_optim_wrapper
from ausam_mm.tooling import settings as tooling
from ausam_mm.tooling.made_up_data import make_batch
from ausam_mm.tooling.reports import (
    Row,
    compare_pairs,
    console,
    markdown_of,
    table_of,
    write_page,
)
from ausam_mm.tooling.runner import read_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'gpu.md'
NO_GPU = ('PyTorch finds no GPU here, so nothing was tested or measured: run '
          '`make gpu` on a machine with one.')
SETTINGS = ('OptimWrapper', 'SAM',
            'AUSAM alpha=0.5 warmup_iters=1 ramp_iters=0',
            'AUSAM alpha=(0.25,0.75) warmup_iters=1 ramp_iters=0')
PRECISIONS = ('float32', 'float16', 'bfloat16')
CONFIGS = ROOT / 'configs' / 'classification'
CASES = {
    'ResNet-18, CIFAR': (
        CONFIGS / 'cifar10' / 'resnet18_b256_cifar10.py',
        ['train_dataloader.batch_size=256']),
    'ResNet-50': (
        CONFIGS / 'imagenet' / 'resnet50_8xb32_in1k.py',
        ['train_dataloader.batch_size=64']),
}
QUICK = {
    'small ResNet-18': (
        CONFIGS / 'digits' / 'resnet18-c16_b64_digits.py',
        ['train_dataloader.batch_size=4', 'model.backbone.base_channels=4',
         'model.backbone.stem_channels=4', 'model.head.in_channels=32']),
}
LEGEND = (
    'step: median; ratio: to OptimWrapper in the same round, median; peak: '
    'memory of the steps after the warm-up; waits: the times that Python '
    "waits for the device from the first layer to the optimizer's step, and "
    'from there to the end of the step.')


def host_waits(step: Callable[[], Any], device: str) -> tuple[int, int]:
    """How often Python waits for the device, counted by the profiler.

    Args:
        step (Callable): Runs a training step.
        device (str): 'cuda', or 'cpu', where the values that Python reads are
            counted: on a GPU it would wait for them.

    Returns:
        tuple[int, int]: The waits between the first layer and the optimizer's
        step, and those from there on. Copying the batch comes before.
    """
    # On ROCm the latter begin with hip.
    ends = 'aten::_local_scalar_dense' if device == 'cpu' else (
        'StreamSynchronize', 'EventSynchronize')
    activities = [ProfilerActivity.CPU]
    if device != 'cpu':
        activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities):  # which sets the profiler up
            torch.ones(1, device=device).item()
    with profile(activities=activities) as profiled:
        step()
    events = [(event.time_range.start, event.name)
              for event in profiled.events()]
    first = min(start for start, name in events
                if name in ('aten::conv2d', 'aten::linear'))
    stepped = min((start for start, name in events
                   if name.startswith('Optimizer.step#')),
                  default=math.inf)  # after an overflow it is left out
    waits = [start for start, name in events
             if name.endswith(ends) and start > first]
    before = sum(start < stepped for start in waits)
    return before, len(waits) - before


def seconds_of(run: Callable[[], Any], device: str) -> float:
    """How long the device works at what ``run`` gives it."""
    if device == 'cpu':
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def configure(cfg: Config, setting: str, precision: str,
              options: Sequence[str]) -> Config:
    """A copy of a config with a setting in a precision."""
    cfg = tooling.configure(cfg, setting, options)
    if precision != 'float32':
        set_optim_wrapper(cfg, amp=True)
        wrapper = cfg.optim_wrapper
        wrapper.get('base', wrapper)['dtype'] = precision
    return cfg


def measure(path: Path, options: Sequence[str], precision: str,
            args: argparse.Namespace) -> list[dict[str, Any]]:
    """The figures of a config in a precision, one row a setting."""
    cfg = read_config(str(path))
    with_data = Config(cfg.to_dict())
    tooling.merge(with_data, options)
    on_gpu = args.device != 'cpu'
    if on_gpu:  # what the case before has left
        gc.collect()
        torch.cuda.empty_cache()
    setups, rows = [], []
    with tooling.scope_of(cfg):
        batch, _ = make_batch(with_data, 256, args.seed)

        def steps(setup: tooling.Setup, number: int) -> None:
            for _ in range(number):
                setup.model.train_step(dict(batch), setup.wrapper)

        def warm(setting: str) -> tooling.Setup:
            setup = tooling.build_setup(
                configure(cfg, setting, precision, options), setting, args)
            setup.wrapper.initialize_count_status(
                setup.model, 0, 7 + args.rounds * args.block)
            steps(setup, 3)
            return setup

        warm(SETTINGS[0])  # what CUDA's libraries set up once
        for setting in SETTINGS:
            gc.collect()
            held = torch.cuda.memory_allocated() if on_gpu else 0
            setup = warm(setting)
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            steps(setup, 3)
            peak = torch.cuda.max_memory_allocated() - held if on_gpu else 0
            rows.append(dict(
                setting=setting, precision=precision, peak=peak,
                waits=host_waits(partial(steps, setup, 1), args.device)))
            setups.append(setup)
        times: list[list[float]] = [[] for _ in setups]
        for _ in range(args.rounds):
            for setup, seconds in zip(setups, times):
                seconds.append(seconds_of(
                    partial(steps, setup, args.block), args.device))
    for row, setup, seconds in zip(rows, setups, times):
        row.update(
            compare_pairs(seconds, times[0]), finite=setup.is_finite(),
            milliseconds=1000 * statistics.median(seconds) / args.block)
    return rows


def cells_of(row: dict[str, Any]) -> Row:
    """A row of the table, by the head of its column."""
    name, *options = row['setting'].split()
    low, high = row['quartiles']
    before, after = row['waits']
    return {
        'precision': row['precision'],
        'wrapper': ' '.join([name, *options[:1]]),
        'step\n[ms]': f'{row["milliseconds"]:.1f}',
        'ratio': f'{row["ratio"]:.2f}',
        'quartiles': f'{low:.2f} - {high:.2f}',
        'peak\n[MiB]': f'{row["peak"] / 2**20:.0f}' if row['peak'] else '-',
        'waits': f'{before} + {after}' + ('' if row['finite'] else
                                          ', not finite'),
    }


def device_name(device: str) -> str:
    """The device, and what PyTorch was built for."""
    if device == 'cpu':
        return f'a CPU, torch {torch.__version__}'
    properties = torch.cuda.get_device_properties(device)
    return (f'{properties.name} ({properties.total_memory / 2**30:.0f} GiB), '
            f'torch {torch.__version__}, CUDA {torch.version.cuda}')


def run_tests() -> None:
    """Runs the tests that need a GPU; ends where one fails."""
    code = subprocess.run(
        [sys.executable, '-m', 'pytest', '-m', 'gpu', 'tests/gpu'],
        cwd=ROOT).returncode
    if code:
        raise SystemExit(code)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tests if wanted, measures, prints and writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tests', action='store_true',
                        help='run the tests that are marked gpu before')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--quick', action='store_true',
                        help='a small model in few rounds')
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS,
                        help='the default is all that the device has')
    parser.add_argument('--cases', nargs='+', choices=CASES, default=[*CASES],
                        help='the models; the default is all')
    parser.add_argument('--batch-size', type=int,
                        help="the default is the case's own")
    parser.add_argument('--append', action='store_true',
                        help='keep what is measured on the page already')
    parser.add_argument('--rounds', type=int, help='the default is 30')
    parser.add_argument('--block', type=int, default=5,
                        help='steps of each wrapper in a round (5)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--page', type=Path, help='the page to write; the '
                        'default is docs/gpu.md, and none with --quick')
    args = parser.parse_args(argv)
    if args.device != 'cpu' and not torch.cuda.is_available():
        print(NO_GPU)
        return
    if args.tests:
        run_tests()
    args.rounds = args.rounds or (2 if args.quick else 30)
    if not args.precisions:
        args.precisions = PRECISIONS[:1] if args.device == 'cpu' else [
            name for name in PRECISIONS
            if name != 'bfloat16' or torch.cuda.is_bf16_supported()]
    if not args.page and not args.quick:
        args.page = PAGE

    command = shlex.join(['python', '-m', 'tests.gpu.report',
                          *(sys.argv[1:] if argv is None else argv)])
    tested = ', after the tests, which passed' if args.tests else ''
    text = (f'Measured on {date.today()} on {device_name(args.device)}, by '
            f'`{command}`{tested}.\n\n')
    cases = QUICK if args.quick else {
        name: CASES[name] for name in args.cases}
    for name, (path, options) in cases.items():
        rows = []
        if args.batch_size:
            options = [f'train_dataloader.batch_size={args.batch_size}',
                       *options[1:]]
        batch = options[0].split('=')[1]
        title = (f'{name}, batch {batch}, {args.rounds} rounds of '
                 f'{args.block} steps')
        for precision in args.precisions:
            try:
                rows += map(cells_of, measure(path, options, precision, args))
            except torch.cuda.OutOfMemoryError:
                text += f'{title}: {precision} did not fit into memory.\n\n'
        if rows:
            console().print(table_of(title, rows, LEGEND))
            text += markdown_of(title, rows, LEGEND) + '\n'
    if args.page:
        write_page(args.page, text, args.append)
        print(f'Written into {args.page}.')


if __name__ == '__main__':
    main()
