"""Networks for small images and of other libraries, as backbones."""

from .mobilenet_v2 import MobileNetV2_CIFAR
from .pytorchcv import PytorchCVBackbone

__all__ = ['MobileNetV2_CIFAR', 'PytorchCVBackbone']
