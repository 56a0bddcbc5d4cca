"""Histograms of what a quantised model rounds, with the levels it rounds to.

For each quantised layer, or those of --layers: its weight and its inputs over
some batches, in units of the step size, so that the levels are the integers.
Grey lines (ticks, where there are many) are the levels, dashed red ones the
smallest and the largest; what lies beyond those is clipped. The outermost
bars hold all that lies further out. Weights with a step size for each channel
are counted together, each in its own unit.

It prints, and with --json writes, the shares of values that are clipped and of
levels that are used.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import torch
from mmengine.runner import set_random_seed
from rich.console import Console
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _common import set_dataloader_defaults  # noqa: E402
from _histogram_plot import draw  # noqa: E402
from _made_up_data import make_inputs  # noqa: E402
from _settings import (  # noqa: E402
    build_model,
    load_weights,
    merge,
    positive,
    read_config,
    scope_of,
)
from _tables import table_of  # noqa: E402
from benchmark import make_loader  # noqa: E402

import ausam_mm  # noqa: E402, F401
from ausam_mm.quantization import LSQLayer, LSQuantizer  # noqa: E402

BINS = 128
LEGEND = ('clipped: share of values beyond the smallest or the largest '
          'level; levels: how many values are rounded to, of all.')


class Counts:
    """Counts what goes into a quantiser.

    Args:
        quantizer (LSQuantizer): The quantiser, with its step size.
    """

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

    def result(self) -> Dict[str, Any]:
        """Shares, the levels that are used, and the bars of a histogram."""
        return dict(
            bits=self.quantizer.bits, bounds=list(self.bounds),
            clipped=self.clipped / self.number,
            used=int((self.levels > 0).sum()),
            levels=(self.levels / self.number).tolist(),
            edges=self.edges.tolist(),
            shares=(self.bins / self.number).tolist())


def measure(model: nn.Module, names: List[str], batches: Iterator[Tensor],
            *others) -> List[dict]:
    """Counts weights and inputs of layers.

    Args:
        model (nn.Module): The model, in eval mode.
        names (list[str]): Names of quantised layers.
        batches (Iterator[Tensor]): Its inputs.
        *others: What else the model is called with.

    Returns:
        list[dict]: For the weight and the input of each layer, ``layer``,
        ``tensor``, and what :meth:`Counts.result` returns.
    """
    counts, handles = {}, []
    for name in names:
        for kind in ('weight', 'input'):
            quantizer = getattr(model.get_submodule(name), f'{kind}_quantizer')
            counts[name, kind] = Counts(quantizer)

    def before(name, kind):
        return lambda module, args: counts[name, kind].add(args[0])

    def listen(kind):
        return [getattr(model.get_submodule(name), f'{kind}_quantizer')
                .register_forward_pre_hook(before(name, kind))
                for name in names]

    handles = listen('input') + listen('weight')
    try:
        with torch.no_grad():
            for inputs in batches:
                model(inputs, *others)
                # Weights stay the same.
                for handle in handles[len(names):]:
                    handle.remove()
    finally:
        for handle in handles:
            handle.remove()
    return [dict(layer=name, tensor=kind, **found.result())
            for (name, kind), found in counts.items() if found.number]


def choose(model: nn.Module, wanted: List[str]) -> List[str]:
    """Names of the quantised layers that are asked for, or of all."""
    layers = [name for name, module in model.named_modules()
              if isinstance(module, LSQLayer)]
    if not layers:
        raise SystemExit('The model has no quantised layer: give a config '
                         'whose model is an LSQModel.')
    for name in wanted:
        if name not in layers:
            raise SystemExit(f'--layers {name} is no quantised layer: choose '
                             f'from names such as {", ".join(layers[:4])}.')
    for name in wanted or layers:
        layer = model.get_submodule(name)
        if not (layer.input_quantizer.ready and layer.weight_quantizer.ready):
            raise SystemExit(f'{name} has no step size: give a checkpoint of '
                             'the quantised model.')
    return wanted or layers


def cells_of(row: dict) -> Dict[str, str]:
    """A row of the table."""
    return {'layer': row['layer'], 'tensor': row['tensor'],
            'bits': str(row['bits']), 'clipped': f'{row["clipped"]:.2%}',
            'levels': f'{row["used"]} of {len(row["levels"])}'}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    parser.add_argument('checkpoint', help='the checkpoint file')
    parser.add_argument('--layers', nargs='+', default=[],
                        help='names of layers; the default is all')
    parser.add_argument('--data', choices=['real', 'made-up'], default='real',
                        help="batches of the config's train_dataloader, or "
                        'images of noise')
    parser.add_argument('--batches', type=positive, default=4)
    parser.add_argument('--image-size', type=positive, default=256,
                        help='sides of made-up images before the pipeline '
                        '(256)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path,
                        default=Path('quantization_histograms.png'),
                        help='the figure')
    parser.add_argument('--json', type=Path, help='file for all numbers')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings to override, key=value')
    args = parser.parse_args(argv)
    cfg = read_config(args.config)
    merge(cfg, args.cfg_options)
    set_random_seed(args.seed)
    with scope_of(cfg):
        model = build_model(cfg)
        load_weights(model, args.checkpoint)
        model.eval()  # which returns None for backbones of mmpretrain
        names = choose(model, args.layers)
        if args.data == 'real':
            set_dataloader_defaults(
                cfg, ['train_dataloader'], pin_memory=False)
            batches = (model.data_preprocessor(batch, False)['inputs']
                       for batch in itertools.islice(
                           make_loader(cfg, args.seed), args.batches))
        else:
            size = cfg.train_dataloader.batch_size
            batches = (make_inputs(cfg, model, size, args.image_size,
                                   args.seed + i)
                       for i in range(args.batches))
        rows = measure(model, names, batches, None)
    title = (f'{Path(args.config).stem}, {args.batches} batches of '
             f'{args.data} data')
    Console().print(table_of(title, [cells_of(row) for row in rows], LEGEND))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(title, rows, args.out)
    print(f'Written to {args.out}.')
    if args.json:
        args.json.write_text(json.dumps(dict(
            config=args.config, checkpoint=args.checkpoint, rows=rows)))


if __name__ == '__main__':
    main()
