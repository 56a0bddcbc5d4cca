"""Size and bit-operations of a model, by layer and in all.

For each layer: parameters, bits of a weight and of an input, size, multiply-
accumulates (MACs) of one sample, and bit-operations. Those are

    BOPs = MACs * bits of a weight * bits of an input

as in van Baalen et al., "Bayesian Bits", NeurIPS 2020 (arXiv 2005.07093).
Float counts as 32 bits on either side, so as 1024 a MAC. Biases, BatchNorm's
parameters and step sizes are float. Buffers (BatchNorm's running statistics)
and the additions of biases are not counted. Matrix products outside of
layers, as in attention, are counted together as float.

The float model that the ratios are to has the same parameters, less the step
sizes. No checkpoint is needed.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from mmengine.runner import set_random_seed
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).resolve().parents[1]))
import _common  # noqa: E402, F401
from _made_up_data import make_inputs  # noqa: E402
from _settings import (  # noqa: E402
    build_model,
    merge,
    positive,
    read_config,
    scope_of,
)
from _tables import markdown_of, table_of  # noqa: E402

import ausam_mm  # noqa: E402, F401
from ausam_mm.quantization import LSQLayer, LSQuantizer  # noqa: E402

FLOAT = 32
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
LEGEND = ('w, a: bits of a weight and of an input; MACs, BOPs: multiply-'
          'accumulates and bit-operations of a sample.')


def measure(model: nn.Module, inputs: Tensor, *others) -> dict:
    """Costs of a model.

    Args:
        model (nn.Module): The model.
        inputs (Tensor): One sample, of shape (1, ...).
        *others: What else the model is called with.

    Returns:
        dict: ``rows``, of each layer and of what is outside of layers, with
        name, parameters, w_bits, a_bits, bits (of all its parameters), macs
        and bops; ``total`` and ``float``, parameters, bits, macs and bops of
        the model and of the float model.
    """
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, LAYERS)}
    macs, all_macs = _macs(model, layers, inputs, *others)
    rows, seen = [], set()
    for name, layer in layers.items():
        w_bits = a_bits = FLOAT
        if isinstance(layer, LSQLayer):
            w_bits = layer.weight_quantizer.bits
            a_bits = layer.input_quantizer.bits
        # Weights that layers share are stored once.
        own = {id(p): p for p in layer.parameters() if id(p) not in seen}
        seen.update(own)
        number = sum(p.numel() for p in own.values())
        bits = sum(p.numel() * (w_bits if p is layer.weight else FLOAT)
                   for p in own.values())
        rows.append(_row(name, number, w_bits, a_bits, bits, macs[name]))
    rest = sum(p.numel() for p in model.parameters() if id(p) not in seen)
    rows.append(_row('outside of layers', rest, FLOAT, FLOAT, rest * FLOAT,
                     all_macs - sum(macs.values())))
    total = {key: sum(row[key] for row in rows)
             for key in ('parameters', 'bits', 'macs', 'bops')}
    steps = sum(m.step.numel() for m in model.modules()
                if isinstance(m, LSQuantizer))
    number = total['parameters'] - steps
    return dict(rows=rows, total=total, float=dict(
        parameters=number, bits=number * FLOAT, macs=total['macs'],
        bops=total['macs'] * FLOAT**2))


def _row(name: str, parameters: int, w_bits: int, a_bits: int, bits: int,
         macs: int) -> Dict[str, Any]:
    return dict(name=name, parameters=parameters, w_bits=w_bits,
                a_bits=a_bits, bits=bits, macs=macs,
                bops=macs * w_bits * a_bits)


def _macs(model: nn.Module, layers: Dict[str, nn.Module], inputs: Tensor,
          *others) -> Tuple[Dict[str, int], int]:
    """Multiply-accumulates of each layer, and of all matrix products."""
    found = dict.fromkeys(layers, 0)

    def after(name):

        def count(layer, args, output):
            # Each weight meets each position; a transposed convolution's
            # positions are those of its input.
            transposed = getattr(layer, 'transposed', False)
            tensor = args[0] if transposed else output
            channel = -1 if isinstance(layer, nn.Linear) else 1
            positions = tensor.numel() // tensor.shape[channel]
            found[name] += positions * layer.weight.numel()

        return count

    handles = [layer.register_forward_hook(after(name))
               for name, layer in layers.items()]
    counter = FlopCounterMode(display=False)
    model.eval()  # which returns None for backbones of mmpretrain
    try:
        # The counter looks for the graph of what requires gradients.
        with torch.enable_grad(), counter:
            model(inputs, *others)
    finally:
        for handle in handles:
            handle.remove()
    # It counts a product and a sum as two.
    return found, max(counter.get_total_flops() // 2, sum(found.values()))


def cells_of(result: dict) -> List[Dict[str, str]]:
    """The rows of the table."""
    cells = [_cells(row, row['name'], str(row['w_bits']), str(row['a_bits']))
             for row in result['rows']]
    return [*cells, _cells(result['total'], 'in all'),
            _cells(result['float'], 'in float')]


def _cells(row: dict, name: str, w: str = '', a: str = '') -> Dict[str, str]:
    return {'layer': name, 'parameters': f'{row["parameters"]:,}', 'w': w,
            'a': a, 'size\n[KiB]': f'{row["bits"] / 8192:,.1f}',
            'MACs\n[M]': f'{row["macs"] / 1e6:,.2f}',
            'BOPs\n[G]': f'{row["bops"] / 1e9:,.3f}'}


def ratios_of(result: dict) -> str:
    """A line that compares with the float model."""
    total, base = result['total'], result['float']
    return (f'Size: 1/{base["bits"] / total["bits"]:.1f} of float '
            f'({total["bits"]:,} of {base["bits"]:,} bits). Bit-operations: '
            f'1/{base["bops"] / max(1, total["bops"]):.1f} of float.')


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    parser.add_argument('--shape', type=positive, nargs=2, metavar=('H', 'W'),
                        help="size of the input; the default is what the "
                        "config's training pipeline makes")
    parser.add_argument('--image-size', type=positive, default=256,
                        help='sides of images before the pipeline (256)')
    parser.add_argument('--out', type=Path,
                        help='file for the costs, .json or .md')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings to override, key=value')
    args = parser.parse_args(argv)
    if args.out and args.out.suffix not in ('.json', '.md'):
        parser.error(f'--out {args.out} is neither .json nor .md')
    cfg = read_config(args.config)
    merge(cfg, args.cfg_options)
    set_random_seed(0)
    with scope_of(cfg):
        model = build_model(cfg)
        inputs = torch.randn(1, 3, *args.shape) if args.shape else \
            make_inputs(cfg, model, 1, args.image_size, 0)
        for module in model.modules():
            if isinstance(module, LSQuantizer):
                # Costs do not depend on step sizes.
                module.initialise_with(module.step, module.signed)
        result = measure(model, inputs, None)
    size = 'x'.join(map(str, inputs.shape[1:]))
    title = f'{Path(args.config).stem}, input {size}'
    Console().print(table_of(title, cells_of(result), LEGEND))
    print(ratios_of(result))
    if args.out and args.out.suffix == '.json':
        args.out.write_text(json.dumps(
            dict(config=args.config, input=list(inputs.shape[1:]), **result),
            indent=2))
    elif args.out:
        args.out.write_text('\n'.join(
            [markdown_of(title, cells_of(result), LEGEND), ratios_of(result),
             '']))


if __name__ == '__main__':
    main()
