"""The loss of each sample, from the loss modules of any model."""

from . import mmpose, mmpretrain, mmseg, torch_losses
from .per_sample import PerSampleLosses
from .record import PassRecord
from .rules import (
    loss_modules,
    refuse_per_sample_loss,
    register_per_sample_loss,
)

__all__ = [
    'PassRecord', 'PerSampleLosses', 'loss_modules', 'mmpose', 'mmpretrain',
    'mmseg', 'refuse_per_sample_loss', 'register_per_sample_loss',
    'torch_losses'
]
