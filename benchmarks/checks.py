"""What a step pays for not being silently wrong.

Times, inside real steps of AUSAM and SAM: the check of the losses against
their sum, the copies of what a forward pass changes (queues, teachers), and
the look at the losses that is taken now and then. The steps of the base
optimizer, interleaved, are what they are compared with.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from rich.console import Console
from rich.progress import track

from ausam_mm.engine.aside import Aside
from ausam_mm.engine.forward_state import CallCopy, ForwardState
from ausam_mm.losses.per_sample import INTERVAL, PerSampleLosses
from ausam_mm.tooling.reports import print_table

# What is timed: a column, and the methods that belong to it.
PARTS: dict[str, list[tuple[type, str]]] = {
    'check': [(PerSampleLosses, 'check')],
    'inputs': [(CallCopy, '__init__'), (CallCopy, 'has_changed')],
    'state': [(ForwardState, 'save'), (ForwardState, 'rewind'),
              (ForwardState, 'advance')],
    'a look': [(Aside, 'judge')]}


def resnet(width: int) -> dict[str, Any]:
    """A classifier of 32x32 images: ResNet-18 with so many channels."""
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=width,
                      stem_channels=width),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10,
                  in_channels=8 * width,
                  loss=dict(type='CrossEntropyLoss')))


def moco(width: int) -> dict[str, Any]:
    """MoCo v2 with its queue of 65,536 features of 128 numbers."""
    return dict(
        type='MoCo', queue_len=65536, feat_dim=128, momentum=0.001,
        backbone=dict(type='ResNet', depth=18, base_channels=width,
                      stem_channels=width, norm_cfg=dict(type='BN')),
        neck=dict(type='MoCoV2Neck', in_channels=8 * width,
                  hid_channels=2048, out_channels=128, with_avg_pool=True),
        head=dict(type='ContrastiveHead', temperature=0.2,
                  loss=dict(type='CrossEntropyLoss')),
        data_preprocessor=dict(type='SelfSupDataPreprocessor',
                               mean=[0, 0, 0], std=[1, 1, 1]))


CASES: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    'ResNet-18 c8': (resnet, 8), 'ResNet-18 c16': (resnet, 16),
    'ResNet-18 c32': (resnet, 32), 'MoCo c16': (moco, 16)}


def build(case: str) -> BaseModel:
    """The model of a case, in training mode."""
    make, width = CASES[case]
    init_default_scope('mmpretrain')
    __import__('mmpretrain.models')
    MessageHub.get_current_instance().update_info('max_iters', 10**6)
    torch.manual_seed(0)
    model: BaseModel = MODELS.build(make(width))
    return model.train()


def batch_of(case: str, size: int) -> dict[str, Any]:
    """Noise for a model."""
    from mmpretrain.structures import DataSample
    side = 64 if case.startswith('MoCo') else 32
    views = [torch.randn(size, 3, side, side) for _ in range(2)]
    return dict(
        inputs=views if case.startswith('MoCo') else views[0],
        data_samples=[DataSample(metainfo=dict(sample_idx=i)).set_gt_label(
            i % 10) for i in range(size)])


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Adds up what the parts take inside."""
    before = [(owner, name, getattr(owner, name))
              for methods in PARTS.values() for owner, name in methods]

    def watched(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                seconds[part] += time.perf_counter() - start
        return call

    try:
        for part, methods in PARTS.items():
            for owner, name in methods:
                setattr(owner, name, watched(part, getattr(owner, name)))
        yield
    finally:
        for owner, name, method in before:
            setattr(owner, name, method)


def measure(case: str, method: str, size: int, rounds: int) -> dict[str, str]:
    """A row: milliseconds of each part, and their ratio to a plain step."""
    models = [build(case) for _ in range(2)]
    options = dict(warmup_iters=0, ramp_iters=0, alpha=0.5) \
        if method == 'AUSAM' else {}
    wrappers = [
        OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=torch.optim.SGD(
            model.parameters(), lr=1e-3)))
        for model, cfg in zip(models, (dict(type='OptimWrapper'),
                                       dict(type=method, **options)))]
    plain, parts = [], defaultdict(list)
    look = 0.
    for i in track(range(rounds + 3), f'{case}, {method}',
                   console=Console(stderr=True)):
        data = batch_of(case, size)
        start = time.perf_counter()
        models[0].train_step(data, wrappers[0])
        plain.append(time.perf_counter() - start)
        seconds: dict[str, float] = defaultdict(float)
        with timed(seconds):
            models[1].train_step(data, wrappers[1])
        look = max(look, seconds.pop('a look', 0.))
        if i >= 3:  # in the first steps everything is copied
            for part, spent in seconds.items():
                parts[part].append(spent)
    step = statistics.median(plain[3:])
    every = {part: statistics.median(spent) for part, spent in parts.items()}
    row = {'model': case, 'method': method, 'batch': str(size),
           'SGD step\n[ms]': f'{1e3 * step:.1f}'}
    for part in ('check', 'inputs', 'state'):
        row[f'{part}\n[ms]'] = f'{1e3 * every.get(part, 0.):.2f}'
    row['sum /\nSGD step'] = f'{sum(every.values()) / step:.3f}'
    row['a look\n[ms]'] = f'{1e3 * look:.0f}' if look else '-'
    row[f'in {INTERVAL}\nSGD steps'] = f'{look / step / INTERVAL:.2%}' \
        if look else '-'
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--cases', nargs='+', default=list(CASES),
                        choices=list(CASES))
    parser.add_argument('--methods', nargs='+', default=['SAM', 'AUSAM'])
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--out', type=Path, help='JSON file for the figures')
    args = parser.parse_args()
    rows = [measure(case, method, args.batch_size, args.rounds)
            for case in args.cases for method in args.methods]
    print_table(f'Milliseconds of a step that checks take, {args.rounds} '
                'rounds', rows, args.out, rows=rows)


if __name__ == '__main__':
    main()
