"""What analyze.py's sharpness costs at several sizes of a network.

ResNet-18 for CIFAR's images with random weights, on random images. Processor
time of one thread, which other processes do not lengthen: of a gradient, and
of a product of the Hessian with a vector, in turn; and of the largest
eigenvalue. Memory is by how much the peak of the process grows over the model
and the samples. A gradient is the unit of the rest: a step of the ascent in a
ball is one.
"""

import argparse
import multiprocessing
import resource
import statistics
import time

import torch
from mmengine.config import Config
from rich.progress import track

from ausam_mm.analysis.objective import Objective
from ausam_mm.analysis.sharpness import eigenvalues, make_hessian
from ausam_mm.tooling.reports import print_table
from ausam_mm.tooling.settings import build_model, scope_of

CONFIG = 'configs/classification/cifar10/resnet18-c16_b128_cifar10-2000.py'


def peak():
    """The peak memory of the process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def processor_time(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def make_objective(channels, samples):
    """The loss of a network with so many base channels on one batch."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.update(base_channels=channels, stem_channels=channels)
    cfg.model.head.in_channels = 8 * channels
    torch.manual_seed(0)
    with scope_of(cfg):
        from mmpretrain.structures import DataSample
        model = build_model(cfg)
    batch = dict(
        inputs=torch.randint(256, (samples, 3, 32, 32), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(i % 10)
                      for i in range(samples)])
    return Objective(model, [batch])


def measure(channels, samples, rounds):
    """Seconds and megabytes of a network, in a process of its own."""
    torch.set_num_threads(1)
    objective = make_objective(channels, samples)
    hessian = make_hessian(objective)
    vector = torch.randn(hessian.shape[0])
    objective.loss()
    weights, before = objective.weights(), peak()
    calls = dict(gradient=lambda: objective.loss_and_gradient(weights),
                 product=lambda: hessian @ vector)
    memory = {}
    for name, call in calls.items():
        call()
        memory[name] = peak() - before
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(processor_time(call))
    found = {name: statistics.median(each) for name, each in times.items()}
    products = []
    found['eigenvalue'] = processor_time(lambda: eigenvalues(
        objective, 1, 0, lambda: products.append(0)))
    return dict(
        channels=channels, parameters=hessian.shape[0], seconds=found,
        ratio=statistics.median(b / a for a, b in zip(
            times['gradient'], times['product'])),
        products=len(products), megabytes=memory)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--channels', type=int, nargs='+',
                        default=[16, 32, 64], help='base channels (16 32 64)')
    parser.add_argument('--samples', type=int, default=64,
                        help='images, in one batch (64)')
    parser.add_argument('--rounds', type=int, default=5,
                        help='of gradient and product (5)')
    args = parser.parse_args()
    rows = []
    context = multiprocessing.get_context('spawn')
    for channels in track(args.channels, 'networks'):
        with context.Pool(1) as pool:
            rows.append(pool.apply(measure, (channels, args.samples,
                                             args.rounds)))
    print_table(
        f'Sharpness of ResNet-18 on {args.samples} images of 32 x 32', [{
            'base channels': f'{row["channels"]}',
            'parameters': f'{row["parameters"]:,}',
            'gradient\n[s]': f'{row["seconds"]["gradient"]:.2f}',
            'product\n[s]': f'{row["seconds"]["product"]:.2f}',
            'ratio': f'{row["ratio"]:.1f}',
            'largest\neigenvalue [s]': f'{row["seconds"]["eigenvalue"]:.0f}',
            'its\nproducts': f'{row["products"]}',
            'gradient\n[MB]': f'{row["megabytes"]["gradient"]:.0f}',
            'product\n[MB]': f'{row["megabytes"]["product"]:.0f}',
        } for row in rows])


if __name__ == '__main__':
    main()
