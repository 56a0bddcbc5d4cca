"""What processes send each other in a step, beside OptimWrapper.

Two gloo processes train a ResNet-18 for 32x32 images under DDP, and PyTorch's
profiler records each collective operation with the shape of what it was given.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import Dataset, SequentialSampler

from ausam_mm import AUSAMBatchSampler
from ausam_mm.tooling.reports import print_table
from ausam_mm.tooling.runner import leave_processes

MODEL = (Path(__file__).resolve().parents[1] /
         'configs/_base_/models/resnet18-c16_cifar.py')

WRAPPERS = {
    'plain': dict(type='OptimWrapper'),
    'SAM': dict(type='SAM'),
    'SAM, synchronized': dict(type='SAM', sync_perturbation=True),
    'AUSAM(0.5)': dict(type='AUSAM', warmup_iters=1),
    'AUSAM(0.5), loader': dict(type='AUSAM', warmup_iters=1),
}
# Gradients are float32; keys and scores go as int64.
BYTES = dict(all_reduce=4, all_gather=8)


def make_classifier(batch_size: int) -> tuple:
    """ResNet_CIFAR-18 with 16 base channels, and a batch of 32x32 images."""
    init_default_scope('mmpretrain')
    from mmpretrain.structures import DataSample
    cfg = Config.fromfile(MODEL).model
    cfg.head.loss = dict(type='CrossEntropyLoss')
    samples = [
        DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i % 10)
        for i in range(batch_size)
    ]
    return MODELS.build(cfg), dict(
        inputs=torch.randn(batch_size, 3, 32, 32), data_samples=samples)


def selected(batch: dict) -> Iterator[dict]:
    """The same samples batch by batch, selected before they are loaded."""

    class Samples(Dataset):

        def __len__(self) -> int:
            return len(batch['data_samples'])

        def __getitem__(self, index: int) -> dict:
            return {name: part[index] for name, part in batch.items()}

    dataset = Samples()
    sampler = AUSAMBatchSampler(SequentialSampler(dataset), len(dataset))
    while True:
        for indices in sampler:
            yield default_collate(dataset.__getitems__(indices))


def count_step(name: str, cfg: dict, batch_size: int) -> dict[str, int]:
    """What a profiled step of a wrapper sends."""
    torch.manual_seed(0)
    model, data = make_classifier(batch_size)
    model.train()
    outer = MMDistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    wrapper = OPTIM_WRAPPERS.build(
        cfg, default_args=dict(optimizer=optimizer))
    batches = selected(data) if 'loader' in name else repeat(data)
    for _ in range(2):  # DDP forms its buckets anew after the first
        outer.train_step(next(batches), wrapper)
    with profile(activities=[ProfilerActivity.CPU],
                 record_shapes=True) as profiler:
        outer.train_step(next(batches), wrapper)
    sizes = dict.fromkeys(BYTES, 0)
    operations = 0
    for event in profiler.events():
        if event.name.startswith('gloo:'):
            kind = event.name.split(':')[1]
            elements = sum(
                torch.Size(shape).numel() for shape in event.input_shapes)
            sizes[kind] += BYTES[kind] * elements
            operations += 1
    return dict(operations=operations, **sizes)


def count(rank: int, processes: int, batch_size: int, folder: str) -> None:
    """One process: a profiled step of each wrapper."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store',
                            rank=rank, world_size=processes)
    result = {name: count_step(name, cfg, batch_size)
              for name, cfg in WRAPPERS.items()}
    if rank == 0:
        Path(folder, 'result.json').write_text(json.dumps(result))
    leave_processes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch-sizes', type=int, nargs='+',
                        default=[8, 32, 128], help='of each process')
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--out', type=Path, help='JSON file for the figures')
    args = parser.parse_args()
    rows, figures = [], {}
    for batch_size in args.batch_sizes:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(count, (args.processes, batch_size, folder),
                     args.processes)
            result = json.loads(Path(folder, 'result.json').read_text())
        figures[batch_size] = result
        plain = sum(result['plain'][kind] for kind in BYTES)
        for name, row in result.items():
            beyond = sum(row[kind] for kind in BYTES) - plain
            rows.append({'wrapper': name, 'batch': str(batch_size),
                         'operations': str(row['operations']),
                         'gradients': f'{row["all_reduce"]:,}',
                         'scores': f'{row["all_gather"]:,}',
                         'beyond plain': f'{beyond:,}'})
    print_table(f'Bytes a process gives away in a step, {args.processes} '
                'processes', rows, args.out, bytes=figures)


if __name__ == '__main__':
    main()
