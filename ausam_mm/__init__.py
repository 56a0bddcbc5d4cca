"""Sharpness-aware training at SGD's price for every MMEngine project.

Importing this package registers its optimizer wrappers, hooks, loops,
samplers, backbones and LSQModel with MMEngine. It imports neither mmpretrain
nor mmpose: each costs only those who use it.
"""

from . import compat, optim
from .hooks import InfoBatchHook
from .loops import (
    ExactResumeEpochBasedTrainLoop,
    ExactResumeIterBasedTrainLoop,
)
from .losses import refuse_per_sample_loss, register_per_sample_loss
from .models import MobileNetV2_CIFAR, PytorchCVBackbone
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
from .quantization import LSQModel, fold_batchnorm, quantize_model
from .sampling import AUSAMBatchSampler, InfoBatchSampler, SampleHistory
from .version import __version__

compat.install()

__all__ = [
    'AELookSAM', 'AESAM', 'AUSAM', 'AUSAMBatchSampler', 'ESAM',
    'ExactResumeEpochBasedTrainLoop', 'ExactResumeIterBasedTrainLoop', 'FSAM',
    'InfoBatchHook', 'InfoBatchSampler', 'KSAM',
    'LSQModel', 'LookSAM', 'MSAM', 'MobileNetV2_CIFAR', 'PytorchCVBackbone',
    'SAM', 'SSSAM', 'SampleHistory', 'VSAM', '__version__', 'compat',
    'fold_batchnorm', 'optim', 'quantize_model', 'refuse_per_sample_loss',
    'register_per_sample_loss'
]
