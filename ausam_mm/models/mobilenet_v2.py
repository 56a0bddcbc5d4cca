"""mmpretrain's MobileNetV2 for small images."""

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from ..checks import require


@MODELS.register_module()
def MobileNetV2_CIFAR(  # noqa: N802, a name in the registry
        strides: Sequence[int] = (1, 1, 1, 2, 2, 1, 2, 1),
        **kwargs: Any) -> nn.Module:
    """Builds mmpretrain's MobileNetV2 with other strides.

    mmpretrain's own has no option for them. It makes maps 32 times smaller,
    which leaves one pixel of a CIFAR image.

    Args:
        strides (Sequence[int]): Of the first convolution, and of the first
            block of each of the seven stages. Defaults to those that make
            maps 8 times smaller: 1 in the first convolution and the second
            stage, else the usual.
        **kwargs: Passed on to mmpretrain's MobileNetV2.

    Returns:
        nn.Module: The backbone.

    Raises:
        ValueError: If there are not eight strides.

    Examples:
        >>> backbone = dict(type='MobileNetV2_CIFAR', widen_factor=0.5)
    """
    from mmpretrain.models import MobileNetV2
    require(
        len(strides) == 8, f'strides={strides!r} are {len(strides)}: give '
        'eight, of the first convolution and of the seven stages.')
    backbone: Any = MobileNetV2(**kwargs)
    backbone.conv1.conv.stride = (strides[0], ) * 2
    for i, stride in enumerate(strides[1:], 1):
        block = getattr(backbone, f'layer{i}')[0]
        depthwise = next(module for module in block.modules()
                         if isinstance(module, nn.Conv2d)
                         and module.groups > 1)
        depthwise.stride = (stride, ) * 2
    network: nn.Module = backbone
    return network
