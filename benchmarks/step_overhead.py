"""What a two-pass step costs beyond its two passes, by parameters.

The model is one matrix product with almost no work for its size, so that the
rest of a step shows: norm, saved copy, perturbation, restore, the check of the
second gradient, selection and table. It is timed with the passes left out:
gradients are there already. It is compared in pairs with the time of the base
optimizer's step (SGD with momentum and weight decay), interleaved. Memory is
that of all tensors that are alive, in copies of the weights.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.registry import OPTIM_WRAPPERS
from rich.console import Console
from rich.progress import track
from torch import nn

from ausam_mm.engine.base_wrapper import gradient_is_finite
from ausam_mm.sampling import (
    SampleHistory,
    sample_multinomial,
    selection_probabilities,
)
from ausam_mm.tooling.reports import compare_pairs, print_table

BATCH = 256
LAYERS = 50


def make_parameters(number: int, device: str) -> nn.ParameterList:
    """About ``number`` parameters in 50 layers of a weight and a bias."""
    width = max(1, round((number / LAYERS)**0.5))
    return nn.ParameterList([
        nn.Parameter(torch.randn(shape, device=device) * 0.01)
        for _ in range(LAYERS) for shape in ((width, width), (width, ))
    ])


def make_wrapper(parameters: nn.ParameterList, **cfg):
    """A wrapper around SGD with momentum and weight decay."""
    optimizer = torch.optim.SGD(
        parameters, lr=1e-4, momentum=0.9, weight_decay=1e-3)
    return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer))


def make_sections(parameters: nn.ParameterList, grads: list, first: list,
                  samples: int) -> dict[str, Callable]:
    """What is timed, by name; ``first`` are gradients of the first pass."""
    plain = make_wrapper(parameters, type='OptimWrapper')
    sam = make_wrapper(parameters, type='SAM', rho=0.05)
    groups = sam.optimizer.param_groups
    history = SampleHistory()
    history.update(torch.arange(samples), torch.rand(samples))

    def fill(grads):  # puts gradients into place without a pass
        for parameter, grad in zip(parameters, grads):
            parameter.grad = grad

    def step():
        fill(grads)
        plain.step()

    def perturb_and_restore():
        fill(first)
        sam.perturbation.perturb(groups)
        sam.perturbation.restore()

    def check():  # the gradients of step() are in place
        gradient_is_finite(parameters)

    def select_and_table():
        keys = torch.randint(samples, (BATCH, ))
        q = selection_probabilities(history.means(keys), 0.1, 0.5)
        chosen = sample_multinomial(q, BATCH // 2)
        history.update(keys[chosen], torch.rand(len(chosen)))

    return {
        'plain step': step,
        'check': check,
        'perturb, restore': perturb_and_restore,
        'select, table': select_and_table
    }


def measure(number: int, rounds: int, samples: int, device: str) -> dict:
    """Milliseconds of each section, and the ratio of the sum to the step."""
    parameters = make_parameters(number, device)
    grads = [torch.randn_like(p) * 1e-3 for p in parameters]
    first = [grad.clone() for grad in grads]
    sections = make_sections(parameters, grads, first, samples)
    times = {name: [] for name in sections}
    warmup = 2
    for i in track(range(rounds + warmup), f'{number:,} parameters',
                   console=Console(stderr=True)):
        for name, section in sections.items():
            for grad in first:  # the perturbation uses them up
                grad.fill_(1e-3)
            if device != 'cpu':
                torch.cuda.synchronize()
            start = time.perf_counter()
            section()
            if device != 'cpu':
                torch.cuda.synchronize()
            if i >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    step, *parts = times.values()
    whole = [sum(part) for part in zip(*parts)]
    return dict(
        compare_pairs(whole, step),
        parameters=sum(p.numel() for p in parameters),
        milliseconds={name: statistics.median(values)
                      for name, values in times.items()})


class Sum(BaseModel):
    """A model whose passes need no memory: the sum of its parameters."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.parts = make_parameters(number, 'cpu')

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=sum(part.sum() for part in self.parts))


def live_bytes(model: nn.Module) -> int:
    """Bytes of all tensors that are alive, each storage once."""
    tensors = [value for value in gc.get_objects()
               if issubclass(type(value), torch.Tensor)]
    tensors += [p.grad for p in model.parameters() if p.grad is not None]
    return sum({
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in tensors
    }.values())


def memory(number: int) -> dict[str, float]:
    """Most memory that is alive after perturbing or before stepping.

    In copies of the weights, by wrapper and accumulation.
    """
    result = {}
    for kind in ('OptimWrapper', 'SAM'):
        for accumulation in (1, 2):
            model = Sum(number)
            weights = 4 * sum(p.numel() for p in model.parameters())
            wrapper = make_wrapper(model.parameters(), type=kind,
                                   accumulative_counts=accumulation)
            peaks = []

            def watched(function, *args, model=model, peaks=peaks, **kwargs):
                result = function(*args, **kwargs)
                peaks.append(live_bytes(model))
                return result

            base = getattr(wrapper, 'base', wrapper)
            base.backward = partial(watched, base.backward)
            if kind == 'SAM':
                wrapper.perturbation.perturb = partial(
                    watched, wrapper.perturbation.perturb)
            before = live_bytes(model) - weights
            for _ in range(2 * accumulation):
                model.train_step(dict(inputs=torch.zeros(1)), wrapper)
            result[f'{kind}, accumulation {accumulation}'] = (
                max(peaks) - before) / weights
            del model, wrapper, base, watched
            gc.collect()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--parameters', type=float, nargs='+',
                        default=[1e6, 1e7, 1e8])
    parser.add_argument('--rounds', type=int, default=30)
    parser.add_argument('--samples', type=int, default=1_000_000,
                        help='samples in the table')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, help='JSON file for the figures')
    args = parser.parse_args()
    rows = [measure(int(number), args.rounds, args.samples, args.device)
            for number in args.parameters]
    number = int(max(args.parameters))
    peaks = memory(number)
    print_table(
        f'Milliseconds of a step beyond its passes, {args.rounds} rounds',
        [{'parameters': f'{row["parameters"]:,}',
          **{name: f'{value:.2f}'
             for name, value in row['milliseconds'].items()},
          'sum / step': f'{row["ratio"]:.2f}',
          'quartiles': ' - '.join(f'{value:.2f}' for value in
                                  row['quartiles'])} for row in rows],
        args.out, rows=rows, copies_of_the_weights=peaks)
    print(f'Tensors at {number:,} parameters, in copies of the weights:')
    for name, copies in peaks.items():
        print(f'  {name}: {copies:.2f}')


if __name__ == '__main__':
    main()
