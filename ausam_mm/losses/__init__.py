"""The loss of each sample, from the loss modules of any model."""

from . import mmdet, mmpose, mmpretrain, mmseg, torch_losses
from .detection import register_detection_head
from .per_sample import PerSampleLosses
from .record import PassRecord
from .rules import (
    loss_modules,
    refuse_per_sample_loss,
    register_per_sample_loss,
)

__all__ = [
    'PassRecord', 'PerSampleLosses', 'loss_modules', 'mmdet', 'mmpose',
    'mmpretrain', 'mmseg', 'refuse_per_sample_loss', 'register_detection_head',
    'register_per_sample_loss', 'torch_losses'
]
