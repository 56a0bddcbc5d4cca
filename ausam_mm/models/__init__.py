"""Backbones for small images and of other libraries, and augmentation."""

from .batch_augment import (
    BatchAugmentDataPreprocessor,
    BatchCutout,
    BatchRandomCrop,
    BatchRandomFlip,
)
from .mobilenet_v2 import MobileNetV2_CIFAR
from .pytorchcv import PytorchCVBackbone

__all__ = [
    'BatchAugmentDataPreprocessor', 'BatchCutout', 'BatchRandomCrop',
    'BatchRandomFlip', 'MobileNetV2_CIFAR', 'PytorchCVBackbone'
]
