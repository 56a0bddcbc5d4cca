"""Sharpness-aware training at SGD's price for every MMEngine project.

Importing this package registers its optimizer wrappers, hooks, samplers and
backbones with MMEngine. It imports neither mmpretrain nor mmpose: each costs
only those who use it.
"""

from . import compat, optim
from .hooks import ExactResumeHook, InfoBatchHook
from .losses import refuse_per_sample_loss, register_per_sample_loss
from .models import PytorchCVBackbone
from .optim import (
    AESAM,
    AUSAM,
    ESAM,
    FSAM,
    KSAM,
    MSAM,
    SAM,
    SSSAM,
    VSAM,
    AELookSAM,
    LookSAM,
)
from .sampling import AUSAMBatchSampler, InfoBatchSampler, SampleHistory
from .version import __version__

compat.install()

__all__ = [
    'AELookSAM', 'AESAM', 'AUSAM', 'AUSAMBatchSampler', 'ESAM',
    'ExactResumeHook', 'FSAM', 'InfoBatchHook', 'InfoBatchSampler', 'KSAM',
    'LookSAM', 'MSAM', 'PytorchCVBackbone', 'SAM', 'SSSAM', 'SampleHistory',
    'VSAM', '__version__', 'compat', 'optim', 'refuse_per_sample_loss',
    'register_per_sample_loss'
]
