"""Sharpness-aware training at SGD's price for every MMEngine project.

Importing this package registers its optimizer wrappers, hooks, samplers and
backbones with MMEngine. It imports neither mmpretrain nor mmpose nor its own
``ausam_mm.quantization``: each costs only those who use it.
"""

from . import compat
from .config import set_optim_wrapper
from .engine import TwoPassOptimWrapper
from .hooks import ExactResumeHook, InfoBatchHook
from .losses import refuse_per_sample_loss, register_per_sample_loss
from .methods import (
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
from .models import MobileNetV2_CIFAR, PytorchCVBackbone
from .sampling import AUSAMBatchSampler, InfoBatchSampler, SampleHistory
from .strategies import ResumableFSDPStrategy
from .version import __version__

compat.install()

__all__ = [
    'AELookSAM', 'AESAM', 'AUSAM', 'AUSAMBatchSampler', 'ESAM',
    'ExactResumeHook', 'FSAM', 'InfoBatchHook', 'InfoBatchSampler', 'KSAM',
    'LookSAM', 'MSAM', 'MobileNetV2_CIFAR', 'PytorchCVBackbone',
    'ResumableFSDPStrategy', 'SAM', 'SSSAM', 'SampleHistory',
    'TwoPassOptimWrapper', 'VSAM', '__version__', 'compat',
    'refuse_per_sample_loss', 'register_per_sample_loss', 'set_optim_wrapper'
]
