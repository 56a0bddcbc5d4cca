"""Histograms of what a quantized model rounds, with the levels it rounds to.

For each quantized layer, or those of --layers: its weight and its inputs over
some batches, in units of the step size, so that the levels are the integers.
Grey lines (ticks, where there are many) are the levels, dashed red ones the
smallest and the largest; what lies beyond those is clipped. The outermost
bars hold all that lies further out. Weights with a step size for each channel
are counted together, each in its own unit.

It prints, and with --json writes, the ratios of values that are clipped and of
levels that are used.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from torch import Tensor, nn

from ausam_mm.quantization import LSQLayer, LSQuantizer
from ausam_mm.tooling.made_up_data import make_inputs
from ausam_mm.tooling.reports import console, table_of
from ausam_mm.tooling.runner import set_dataloader_defaults
from ausam_mm.tooling.settings import (
    make_loader,
    model_parser,
    open_model,
    positive,
)

# More levels than these would be a grey area.
LINES = 32
BINS = 128
LEGEND = ('clipped: ratio of values beyond the smallest or the largest '
          'level; levels: how many values are rounded to, of all.')


class Counts:
    """Counts what goes into a quantizer that has its step size."""

    def __init__(self, quantizer: LSQuantizer) -> None:
        self.quantizer = quantizer
        low, high = self.bounds = quantizer.bounds
        margin = (high - low) / 4
        self.edges = torch.linspace(
            low - margin, high + margin, BINS + 1, dtype=torch.float64)
        self.bins = torch.zeros(BINS)
        self.levels = torch.zeros(high - low + 1)
        self.number = self.clipped = 0

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Counts the values of a tensor."""
        low, high = self.bounds
        codes = self.quantizer.codes(x).flatten().long().cpu() - low
        self.levels += torch.bincount(codes, minlength=len(self.levels))
        ratio = (x / self.quantizer.step).flatten().double().cpu()
        self.number += ratio.numel()
        self.clipped += int(((ratio < low) | (ratio > high)).sum())
        first, last = self.edges[[0, -1]].tolist()
        place = (ratio - first) / (last - first) * BINS
        self.bins += torch.bincount(
            place.floor().clamp(0, BINS - 1).long(), minlength=BINS)

    def result(self) -> dict[str, Any]:
        """Ratios, the levels that are used, and the bars of a histogram."""
        return dict(
            bits=self.quantizer.bits, bounds=list(self.bounds),
            clipped=self.clipped / self.number,
            used=int((self.levels > 0).sum()),
            levels=(self.levels / self.number).tolist(),
            edges=self.edges.tolist(),
            shares=(self.bins / self.number).tolist())


def measure(model: nn.Module, names: list[str], batches: Iterable[Tensor],
            *others) -> list[dict]:
    """Counts weights and inputs of layers of a model in eval mode.

    For each of them a row: ``layer``, ``tensor``, and what
    :meth:`Counts.result` returns. ``others`` go to the model after a batch.
    """
    counts, handles = {}, dict(weight=[], input=[])

    def listen(name, kind):
        quantizer = getattr(model.get_submodule(name), f'{kind}_quantizer')
        found = counts[name, kind] = Counts(quantizer)
        handles[kind].append(quantizer.register_forward_pre_hook(
            lambda module, args: found.add(args[0])))

    for name in names:
        listen(name, 'weight')
        listen(name, 'input')
    try:
        with torch.no_grad():
            for inputs in batches:
                model(inputs, *others)
                for handle in handles['weight']:  # which stay the same
                    handle.remove()
    finally:
        for handle in handles['weight'] + handles['input']:
            handle.remove()
    return [dict(layer=name, tensor=kind, **found.result())
            for (name, kind), found in counts.items() if found.number]


def choose(model: nn.Module, wanted: list[str]) -> list[str]:
    """Names of the quantized layers that are asked for, or of all."""
    layers = [name for name, module in model.named_modules()
              if isinstance(module, LSQLayer)]
    if not layers:
        raise SystemExit('The model has no quantized layer: give a config '
                         'whose model is an LSQModel.')
    for name in wanted:
        if name not in layers:
            raise SystemExit(f'--layers {name} is no quantized layer: choose '
                             f'from names such as {", ".join(layers[:4])}.')
    for name in wanted or layers:
        layer = model.get_submodule(name)
        if not (layer.input_quantizer.ready and layer.weight_quantizer.ready):
            raise SystemExit(f'{name} has no step size: give a checkpoint of '
                             'the quantized model.')
    return wanted or layers


def cells_of(row: dict) -> dict[str, str]:
    """A row of the table."""
    return {'layer': row['layer'], 'tensor': row['tensor'],
            'bits': str(row['bits']), 'clipped': f'{row["clipped"]:.2%}',
            'levels': f'{row["used"]} of {len(row["levels"])}'}


def draw(title: str, rows: list[dict], path: Path) -> None:
    """Draws histograms with the levels that values are rounded to.

    Weight and input of a layer follow each other in the rows.
    """
    layers = (len(rows) + 1) // 2
    columns = 2 if layers <= 3 else 4
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(4 * columns, 2 * lines + 0.9),
                    layout='constrained')
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(rows):]:
        axis.set_visible(False)
    for axis, row in zip(axes.flat, rows):
        draw_panel(axis, row)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel('value / step size', fontsize=9)
    figure.supylabel('ratio of values', fontsize=9)
    figure.savefig(path, dpi=90)


def draw_panel(axis: Any, row: dict) -> None:
    """One histogram."""
    color = 'tab:blue' if row['tensor'] == 'weight' else 'tab:orange'
    edges = row['edges']
    axis.stairs(row['shares'], edges, fill=True, color=color, alpha=0.8)
    low, high = row['bounds']
    levels = range(low, high + 1)
    if len(levels) <= LINES:
        for level in levels:
            axis.axvline(level, color='grey', linewidth=0.4, zorder=0)
    else:
        axis.plot(levels, [0.02] * len(levels), '|', color='black',
                  markersize=4, markeredgewidth=0.3,
                  transform=axis.get_xaxis_transform())
    for bound in (low, high):
        axis.axvline(bound, color='tab:red', linestyle='--', linewidth=1)
    # Zeros would dwarf everything else.
    axis.set_yscale('log')
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axis.set_xlim(edges[0], edges[-1])
    axis.tick_params(labelsize=7)
    name = row['layer'] if len(row['layer']) <= 38 else \
        f'…{row["layer"][-37:]}'
    axis.set_title(
        f'{name}\n{row["tensor"]}, {row["bits"]} bits: {row["clipped"]:.1%} '
        f'clipped, {row["used"]} of {len(levels)} levels', fontsize=8)


def main(argv: Sequence[str] | None = None) -> None:
    parser = model_parser(__doc__)
    parser.add_argument('--layers', nargs='+', default=[],
                        help='names of layers; the default is all')
    parser.add_argument('--data', choices=['real', 'made-up'], default='real',
                        help="batches of the config's train_dataloader, or "
                        'images of noise')
    parser.add_argument('--batches', type=positive, default=4)
    parser.add_argument('--out', type=Path,
                        default=Path('quantization_histograms.png'),
                        help='the figure')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    args = parser.parse_args(argv)
    with open_model(args) as (cfg, model):
        names = choose(model, args.layers)
        loader = cfg.train_dataloader
        if args.data == 'real':
            set_dataloader_defaults(
                cfg, ['train_dataloader'], pin_memory=False)
            loader.drop_last = True
            batches = (model.data_preprocessor(batch, False)['inputs']
                       for batch in itertools.islice(make_loader(
                           cfg, args.seed, ', or take --data made-up'),
                           args.batches))
        else:
            batches = (make_inputs(cfg, model, loader.batch_size,
                                   args.image_size, args.seed + i)
                       for i in range(args.batches))
        rows = measure(model, names, batches, None)
    title = (f'{Path(args.config).stem}, {args.batches} batches of '
             f'{args.data} data')
    console().print(table_of(title, [cells_of(row) for row in rows], LEGEND))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(title, rows, args.out)
    print(f'Written to {args.out}.')
    if args.json:
        args.json.write_text(json.dumps(dict(
            config=args.config, checkpoint=args.checkpoint, rows=rows)))


if __name__ == '__main__':
    main()
