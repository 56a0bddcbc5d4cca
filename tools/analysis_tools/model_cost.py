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

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ausam_mm.quantization import LSQLayer, LSQuantizer
from ausam_mm.tooling.reports import Parts, console, markdown_of, table_of
from ausam_mm.tooling.settings import (
    add_shape,
    inputs_of,
    model_parser,
    open_model,
)

FLOAT = 32
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
LEGEND = ('w, a: bits of a weight and of an input; MACs, BOPs: multiply-'
          'accumulates and bit-operations of a sample.')


def measure(model: nn.Module, inputs: Tensor, *others) -> dict:
    """Costs of each layer, of what is outside of layers, and in all.

    ``rows``, ``total`` and ``float`` (of the float model); ``bits`` are those
    of all parameters.
    """
    layers = {name: module for name, module in model.named_modules()
              if isinstance(module, LAYERS)}
    macs, all_macs = macs_of(model, layers, inputs, *others)
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
        rows.append(dict(
            name=name, parameters=number, w_bits=w_bits, a_bits=a_bits,
            bits=bits, macs=macs[name], bops=macs[name] * w_bits * a_bits))
    rest = sum(p.numel() for p in model.parameters() if id(p) not in seen)
    rest_macs = all_macs - sum(macs.values())
    rows.append(dict(
        name='outside of layers', parameters=rest, w_bits=FLOAT, a_bits=FLOAT,
        bits=rest * FLOAT, macs=rest_macs, bops=rest_macs * FLOAT**2))
    total = {key: sum(row[key] for row in rows)
             for key in ('parameters', 'bits', 'macs', 'bops')}
    steps = sum(m.step.numel() for m in model.modules()
                if isinstance(m, LSQuantizer))
    number = total['parameters'] - steps
    return dict(rows=rows, total=total, float=dict(
        parameters=number, bits=number * FLOAT, macs=total['macs'],
        bops=total['macs'] * FLOAT**2))


def macs_of(model: nn.Module, layers: dict[str, nn.Module], inputs: Tensor,
            *others) -> tuple[dict[str, int], int]:
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


def cells_of(row: dict, name: str) -> dict[str, str]:
    """A row of the table."""
    return {'layer': name, 'parameters': f'{row["parameters"]:,}',
            'w': str(row.get('w_bits', '')), 'a': str(row.get('a_bits', '')),
            'size\n[KiB]': f'{row["bits"] / 8192:,.1f}',
            'MACs\n[M]': f'{row["macs"] / 1e6:,.2f}',
            'BOPs\n[G]': f'{row["bops"] / 1e9:,.3f}'}


def parts_of(result: dict, title: str) -> Parts:
    """Title, rows and legend of the table."""
    return title, [
        *(cells_of(row, row['name']) for row in result['rows']),
        cells_of(result['total'], 'in all'),
        cells_of(result['float'], 'in float')], LEGEND


def ratios_of(result: dict) -> str:
    """A line that compares with the float model."""
    total, base = result['total'], result['float']
    return (f'Size: 1/{base["bits"] / total["bits"]:.1f} of float '
            f'({total["bits"]:,} of {base["bits"]:,} bits). Bit-operations: '
            f'1/{base["bops"] / max(1, total["bops"]):.1f} of float.')


def main(argv: Sequence[str] | None = None) -> None:
    parser = model_parser(__doc__, checkpoint=False)
    add_shape(parser)
    parser.add_argument('--out', type=Path,
                        help='file for the costs, .json or .md')
    args = parser.parse_args(argv)
    if args.out and args.out.suffix not in ('.json', '.md'):
        parser.error(f'--out {args.out} is neither .json nor .md')
    with open_model(args) as (cfg, model):
        inputs = inputs_of(cfg, model, 1, args)
        for module in model.modules():
            if isinstance(module, LSQuantizer):
                # Costs do not depend on step sizes.
                module.initialize_with(module.step, module.signed)
        result = measure(model, inputs, None)
    size = 'x'.join(map(str, inputs.shape[1:]))
    parts = parts_of(result, f'{Path(args.config).stem}, input {size}')
    console().print(table_of(*parts))
    print(ratios_of(result))
    if args.out and args.out.suffix == '.json':
        args.out.write_text(json.dumps(
            dict(config=args.config, input=list(inputs.shape[1:]), **result),
            indent=2))
    elif args.out:
        args.out.write_text(f'{markdown_of(*parts)}\n{ratios_of(result)}\n')


if __name__ == '__main__':
    main()
