"""Exports a trained model to ONNX, with its quantization visible.

The file holds the weights of a model of LSQModel as integers, and
QuantizeLinear and DequantizeLinear around what goes into its layers; a float
model is exported as it is. Its input is what the model's data preprocessor
returns (normalized images), its output what the model returns in tensor mode:
scores of classes, heatmaps, or SimCC's vectors as output_0 and output_1.

Then the file is run in onnxruntime against the model, on images of noise that
went through the config's pipeline. The exit status is 1 if the outputs differ
by more than rounding explains.
"""

from collections.abc import Sequence
from pathlib import Path

from ausam_mm.quantization import (
    LSQLayer,
    compare_onnx,
    export_onnx,
    fold_batchnorm,
    unfolded,
)
from ausam_mm.tooling.settings import (
    add_shape,
    inputs_of,
    model_parser,
    open_model,
    positive,
)

BATCH = 8


def main(argv: Sequence[str] | None = None) -> None:
    parser = model_parser(__doc__)
    add_shape(parser)
    parser.add_argument('--out', type=Path,
                        help='the ONNX file; the default is the checkpoint '
                        'with\nthe ending .onnx')
    parser.add_argument('--fold-bn', action='store_true',
                        help='fold BatchNorm into the layers before it')
    parser.add_argument('--eight-bit', action='store_true',
                        help='store 2 to 4 bits in 8-bit types, too, for '
                        'runtimes\nwithout 4-bit types')
    parser.add_argument('--batch', type=positive,
                        help='fix the batch size; the default is any')
    args = parser.parse_args(argv)
    out = args.out or Path(args.checkpoint).with_suffix('.onnx')
    with open_model(args) as (cfg, model):
        inputs = inputs_of(cfg, model, args.batch or BATCH, args)
        if args.fold_bn:
            model = fold_batchnorm(model, inputs[:1], None)
            for name in unfolded(model):
                print(f'BatchNorm that stays: {name}')
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            export_onnx(model, out, inputs, None, int4=not args.eight_bit,
                        dynamic_batch=args.batch is None)
            found = compare_onnx(model, out, inputs, None)
        except (ImportError, ValueError) as error:
            raise SystemExit(str(error)) from error
    layers = sum(isinstance(module, LSQLayer) for module in model.modules())
    size = 'x'.join(map(str, inputs.shape[1:]))
    print(f'Written to {out}: {layers} quantized layers, input {size}, '
          f'{out.stat().st_size:,} bytes.')
    print(f'onnxruntime against the model, {len(inputs)} images: largest '
          f'difference {found.largest:.2g}, mean {found.mean:.2g} (mean size '
          f'{found.size:.2g}), equal predictions {found.same_argmax:.1%}.')
    if not found.explained:
        raise SystemExit(
            f'{out} does not compute what the model computes: the outputs '
            f'differ by {found.mean:.2g} in the mean, where rounding explains '
            f'{found.limit:.2g}; use another version of onnxruntime, or '
            'report the model.')


if __name__ == '__main__':
    main()
