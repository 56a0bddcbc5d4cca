"""Kills trainings at random moments and compares their endings.

A training of the digits is run to its end once for each way of running
it: epoch- and iteration-based, on one and on two processes, with data loader
workers, and with selection in the loader. Then it is started again, all of its
processes get SIGKILL at a random moment after the first checkpoint, and it is
resumed to the end. The endings are identical where weights, momentum, sample
table, schedulers and every logged loss are the same bit for bit.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
ITERS = 18
WAYS = {f'{loop}-{processes}{selection}': (loop, processes, selection)
        for selection in ('', '-loader')
        for loop in ('epochs', 'iterations') for processes in (1, 2)}
# Small enough that a run takes seconds, with all that is random: the order of
# the data, crops in a worker, AUSAM's selections.
BASE = ROOT / 'configs/classification/digits/resnet18-c16_b64_digits.py'
CONFIG = """
_base_ = '{base}'
model = dict(
    backbone=dict(base_channels=4, stem_channels=4),
    head=dict(in_channels=32))
train_dataloader = dict(
    num_workers=1, dataset=dict(indices=384), sampler=dict(type='{sampler}'),
    {selection})
val_cfg = val_dataloader = val_evaluator = None
optim_wrapper = dict(type='AUSAM', warmup_iters=4, ramp_iters=8)
train_cfg = dict(
    _delete_=True, type='ExactResume{kind}BasedTrainLoop', {length})
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=2))
"""


def command(way: str, work_dir: Path, resume: bool) -> list[str]:
    """The training as a user would start it."""
    loop, processes, selection = WAYS[way]
    config = work_dir.parent / f'{way}.py'
    settings = dict(
        epochs=dict(
            sampler='DefaultSampler', kind='Epoch',
            length=f'max_epochs={ITERS * 64 * processes // 384}'),
        iterations=dict(
            sampler='InfiniteSampler', kind='Iter',
            length=f'max_iters={ITERS}'))[loop]
    config.write_text(CONFIG.format(base=BASE, **settings, selection=(
        "batch_sampler=dict(type='AUSAMBatchSampler')" if selection else '')))
    launch = launcher = ()
    if processes > 1:
        launch = ('-m', 'torch.distributed.run', '--standalone',
                  f'--nproc-per-node={processes}')
        launcher = ('--launcher', 'pytorch')
    return [sys.executable, '-W', 'ignore', *launch,
            str(ROOT / 'tools' / 'train.py'), str(config), '--work-dir',
            str(work_dir), *['--resume'] * resume, *launcher]


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    """Starts a training with a process group of its own."""
    with open(log, 'a') as output:
        return subprocess.Popen(
            arguments, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
            # Sums over several threads may differ in their last bit.
            env=dict(os.environ, OMP_NUM_THREADS='1'))


def finish(arguments: list[str], log: Path) -> None:
    """Runs a training to its end."""
    if start(arguments, log).wait():
        raise SystemExit(f'A training failed: see {log}.')


def last_iter(work_dir: Path) -> int:
    """The iteration of the newest checkpoint; 0 where there is none."""
    return max((int(path.stem.split('_')[1])
                for path in work_dir.glob('iter_*.pth')), default=0)


def ending(work_dir: Path) -> dict:
    """All that a finished training left."""
    checkpoint = torch.load(
        work_dir / f'iter_{ITERS}.pth', map_location='cpu',
        weights_only=False)
    hub = checkpoint['message_hub']
    logs = {**hub['log_scalars'],
            **hub['runtime_info']['ausam_mm/histories']['AUSAM']}
    return dict(
        weights=checkpoint['state_dict'],
        optimizer=checkpoint['optimizer'],
        schedulers=checkpoint['param_schedulers'],
        logs={
            name: list(history._log_history) for name, history in logs.items()
            if 'time' not in name and 'memory' not in name
        })


def differences(left: Any, right: Any, name: str = '') -> list[str]:
    """Names of what is not equal bit for bit."""
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            return [f'{name}: {sorted(map(str, left.keys() ^ right.keys()))}']
        return [line for key in left for line in differences(
            left[key], right[key], f'{name}.{key}')]
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return [f'{name}: {len(left)} and {len(right)} entries']
        return [line for i, (a, b) in enumerate(zip(left, right))
                for line in differences(a, b, f'{name}.{i}')]
    if isinstance(left, torch.Tensor):
        same = left.shape == right.shape and torch.allclose(
            left, right, rtol=0, atol=0, equal_nan=True)
    else:
        same = left == right or (left != left and right != right)
    return [] if same else [f'{name}: {str(left)[:40]}, {str(right)[:40]}']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--ways', nargs='+', choices=list(WAYS),
                        default=list(WAYS))
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/kill_resume'))
    args = parser.parse_args()
    subprocess.run([
        sys.executable, ROOT / 'tools/dataset_converters/digits.py'
    ], check=True)
    shutil.rmtree(args.work_dir, ignore_errors=True)
    args.work_dir.mkdir(parents=True)
    log = args.work_dir / 'output.txt'
    whole = {}
    for way in args.ways:
        folder = args.work_dir / way
        finish(command(way, folder, False), log)
        whole[way] = ending(folder)
        print(f'{way}: ran to its end without a kill', flush=True)

    chance = random.Random(args.seed)
    identical = 0
    for i in range(1, args.kills + 1):
        way = args.ways[i % len(args.ways)]
        folder = args.work_dir / f'kill-{i}'
        target = chance.randint(1, ITERS - 2)
        process = start(command(way, folder, False), log)
        while last_iter(folder) < target and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.2))  # anywhere within an iteration
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed_at = last_iter(folder)
        finish(command(way, folder, True), log)
        wrong = differences(whole[way], ending(folder))
        identical += not wrong
        verdict = f'{len(wrong)} differences, such as {wrong[0]}' \
            if wrong else 'identical'
        print(f'[{i}/{args.kills}] {way}: killed after checkpoint {killed_at} '
              f'of {ITERS}, {verdict}', flush=True)
        shutil.rmtree(folder)
    print(f'{identical} of {args.kills} endings are identical')
    sys.exit(identical != args.kills)


if __name__ == '__main__':
    main()
