"""Sharpness-aware training at SGD's price for every MMEngine project.

Importing this package registers its optimizer wrappers, hooks, loops,
samplers, data sets and backbones with MMEngine. It imports neither mmpretrain
nor mmpose nor its own ``ausam_mm.quantization``: each costs only those who use
it.
"""

from . import compat, compat_mmdet
from .checkpoints import UntrustedCheckpointError, checkpoint_loading
from .config import set_optim_wrapper
from .datasets import KeypointNoise, LabelNoise, wrong_samples
from .engine import TwoPassOptimWrapper
from .hooks import ChannelsLastHook, InfoBatchHook, ScoreHook
from .loops import (
    ExactResumeEpochBasedTrainLoop,
    ExactResumeIterBasedTrainLoop,
)
from .losses import refuse_per_sample_loss, register_per_sample_loss
from .methods import (
    AESAM,
    AUSAM,
    ESAM,
    FSAM,
    GSAM,
    KSAM,
    MSAM,
    SAM,
    SSSAM,
    VSAM,
    AELookSAM,
    LookSAM,
    RandomSAM,
    SAMPa,
    SplitSAM,
)
from .models import (
    BatchAugmentDataPreprocessor,
    BatchCutout,
    BatchRandomCrop,
    BatchRandomFlip,
    MobileNetV2_CIFAR,
    PytorchCVBackbone,
)
from .sampling import AUSAMBatchSampler, InfoBatchSampler, SampleHistory
from .strategies import ResumableFSDPStrategy
from .version import __version__

compat.install()
compat_mmdet.install()

__all__ = [
    'AELookSAM', 'AESAM', 'AUSAM', 'AUSAMBatchSampler',
    'BatchAugmentDataPreprocessor', 'BatchCutout', 'BatchRandomCrop',
    'BatchRandomFlip', 'ChannelsLastHook',
    'ESAM', 'ExactResumeEpochBasedTrainLoop', 'ExactResumeIterBasedTrainLoop',
    'FSAM', 'GSAM', 'InfoBatchHook', 'InfoBatchSampler', 'KSAM',
    'KeypointNoise', 'LabelNoise', 'LookSAM', 'MSAM', 'MobileNetV2_CIFAR',
    'PytorchCVBackbone', 'RandomSAM', 'ResumableFSDPStrategy', 'SAM',
    'SAMPa', 'SSSAM', 'SampleHistory', 'ScoreHook', 'SplitSAM',
    'TwoPassOptimWrapper',
    'UntrustedCheckpointError', 'VSAM', '__version__', 'checkpoint_loading',
    'compat', 'refuse_per_sample_loss', 'register_per_sample_loss',
    'set_optim_wrapper', 'wrong_samples'
]
