"""What a two-pass step costs beyond its two passes, by parameters.

The model is one matrix product with almost no work for its size, so that the
rest of a step shows: norm, saved copy, climb, restore, the check of the second
gradient, draw and table. It is timed with the passes left out: gradients are
there already. The figure is compared in pairs with the time of the plain
optimizer's step (SGD with momentum and weight decay), interleaved. Memory is
that of all tensors that are alive, in copies of the weights.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict

import torch
from mmengine.model import BaseModel
from mmengine.registry import OPTIM_WRAPPERS
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _common import machine as machine_name  # noqa: E402

import ausam_mm  # noqa: E402, F401
from ausam_mm.optim.decisions import Step  # noqa: E402
from ausam_mm.sampling import (  # noqa: E402
    SampleHistory,
    draw_multinomial,
    selection_probabilities,
)

BATCH = 256
LAYERS = 50


def make_parameters(number: int, device: str) -> nn.ParameterList:
    """About ``number`` parameters in 50 layers of a weight and a bias."""
    width = max(1, round((number / LAYERS)**0.5))
    return nn.ParameterList([
        nn.Parameter(torch.randn(shape, device=device) * 0.01)
        for _ in range(LAYERS) for shape in ((width, width), (width, ))
    ])


def fill(parameters: nn.ParameterList, grads: list) -> None:
    """Puts gradients into place without a pass."""
    for parameter, grad in zip(parameters, grads):
        parameter.grad = grad


def make_wrapper(parameters: nn.ParameterList, **cfg):
    """A wrapper around SGD with momentum and weight decay."""
    optimizer = torch.optim.SGD(
        parameters, lr=1e-4, momentum=0.9, weight_decay=1e-3)
    return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer))


def make_sections(parameters: nn.ParameterList, grads: list, first: list,
                  samples: int) -> Dict[str, Callable]:
    """What is timed, by name; ``first`` are the gradients that climbing uses.
    """
    plain = make_wrapper(parameters, type='OptimWrapper')
    sam = make_wrapper(parameters, type='SAM', rho=0.05)
    groups = sam.optimizer.param_groups
    history = SampleHistory()
    history.update(torch.arange(samples), torch.rand(samples))

    def step():
        fill(parameters, grads)
        plain.step()

    def climb_and_restore():
        fill(parameters, first)
        sam.perturbation.climb(groups)
        sam.perturbation.restore()

    step_of_sam = Step(parameters, parameters)

    def check():  # the gradients of step() are in place
        sam._gradient_is_finite(step_of_sam)

    def draw_and_table():
        keys = torch.randint(samples, (BATCH, ))
        q = selection_probabilities(history.means(keys), 0.1, 0.5)
        drawn = draw_multinomial(q, BATCH // 2)
        history.update(keys[drawn], torch.rand(len(drawn)))

    return {
        'plain step': step,
        'check': check,
        'climb, restore': climb_and_restore,
        'draw and table': draw_and_table
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
            for grad in first:  # climbing uses them up
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
    ratios = [sum(part[i] for part in parts) / step[i] for i in range(rounds)]
    quartiles = statistics.quantiles(ratios, n=4)
    return dict(
        parameters=sum(p.numel() for p in parameters),
        milliseconds={
            name: statistics.median(values)
            for name, values in times.items()
        },
        ratio=quartiles[1],
        quartiles=[quartiles[0], quartiles[2]])


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


def memory(number: int) -> Dict[str, float]:
    """Most memory that is alive after climbing or before stepping.

    Args:
        number (int): Parameters of the model.

    Returns:
        dict[str, float]: In copies of the weights, by wrapper and
        accumulation.
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
                wrapper.perturbation.climb = partial(
                    watched, wrapper.perturbation.climb)
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
    console = Console()
    rows = [measure(int(number), args.rounds, args.samples, args.device)
            for number in args.parameters]
    table = Table(title='Milliseconds of a step beyond its passes, '
                  f'{args.rounds} rounds')
    table.add_column('parameters', justify='right')
    for name in [*rows[0]['milliseconds'], 'sum / step', 'quartiles']:
        table.add_column(name, justify='right')
    for row in rows:
        table.add_row(
            f'{row["parameters"]:,}',
            *(f'{value:.2f}' for value in row['milliseconds'].values()),
            f'{row["ratio"]:.2f}',
            ' - '.join(f'{value:.2f}' for value in row['quartiles']))
    console.print(table)
    number = int(max(args.parameters))
    peaks = memory(number)
    console.print(f'Tensors at {number:,} parameters, in copies of the '
                  'weights:')
    for name, copies in peaks.items():
        console.print(f'  {name}: {copies:.2f}')
    machine = machine_name()
    console.print(machine)
    if args.out:
        args.out.write_text(json.dumps(
            dict(machine=machine, rows=rows, copies_of_the_weights=peaks)))


if __name__ == '__main__':
    main()
