"""Exports a trained model to ONNX, with its quantisation visible.

The file holds the weights of a model of LSQModel as integers, and
QuantizeLinear and DequantizeLinear around what goes into its layers; a float
model is exported as it is. Its input is what the model's data preprocessor
returns (normalised images), its output what the model returns in tensor mode:
scores of classes, heatmaps, or SimCC's vectors as output_0 and output_1.

Then the file is run in onnxruntime against the model, on images of noise that
went through the config's pipeline. The exit status is 1 if the outputs differ
by more than rounding explains.
"""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.runner import set_random_seed

TOOLS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOOLS), str(TOOLS / 'analysis_tools')]
import _common  # noqa: E402, F401
from _made_up_data import make_inputs  # noqa: E402
from _settings import (  # noqa: E402
    build_model,
    load_weights,
    merge,
    positive,
    read_config,
    scope_of,
)

import ausam_mm  # noqa: E402, F401
from ausam_mm.quantization import (  # noqa: E402
    LSQLayer,
    compare_onnx,
    export_onnx,
    fold_batchnorm,
    unfolded,
)

BATCH = 8


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file')
    parser.add_argument('checkpoint', help='the checkpoint file')
    parser.add_argument('--out', type=Path,
                        help='the ONNX file; the default is the checkpoint '
                        'with the ending .onnx')
    parser.add_argument('--fold-bn', action='store_true',
                        help='fold BatchNorm into the layers before it')
    parser.add_argument('--eight-bit', action='store_true',
                        help='store 2 to 4 bits in 8-bit types, too, for '
                        'runtimes without 4-bit types')
    parser.add_argument('--batch', type=positive,
                        help='fix the batch size; the default is any')
    parser.add_argument('--shape', type=positive, nargs=2, metavar=('H', 'W'),
                        help="size of the input; the default is what the "
                        "config's training pipeline makes")
    parser.add_argument('--image-size', type=positive, default=256,
                        help='sides of images before the pipeline (256)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings to override, key=value')
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    cfg = read_config(args.config)
    merge(cfg, args.cfg_options)
    out = args.out or Path(args.checkpoint).with_suffix('.onnx')
    out.parent.mkdir(parents=True, exist_ok=True)
    set_random_seed(args.seed)
    with scope_of(cfg):
        model = build_model(cfg)
        load_weights(model, args.checkpoint)
        model.eval()  # which returns None for backbones of mmpretrain
        number = args.batch or BATCH
        inputs = torch.randn(number, 3, *args.shape) if args.shape else \
            make_inputs(cfg, model, number, args.image_size, args.seed)
        if args.fold_bn:
            model = fold_batchnorm(model, inputs[:1], None)
            for name in unfolded(model):
                print(f'BatchNorm that stays: {name}')
        try:
            export_onnx(model, out, inputs, None, int4=not args.eight_bit,
                        dynamic_batch=args.batch is None)
            found = compare_onnx(model, out, inputs, None)
        except (ImportError, ValueError) as error:
            raise SystemExit(str(error)) from error
    layers = sum(isinstance(module, LSQLayer) for module in model.modules())
    size = 'x'.join(map(str, inputs.shape[1:]))
    print(f'Written to {out}: {layers} quantised layers, input {size}, '
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
