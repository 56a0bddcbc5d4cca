"""Data sets with labels that are known to be wrong."""

from .keypoint_noise import KeypointNoise
from .label_noise import LabelNoise
from .noise import Noise, wrong_samples

__all__ = ['KeypointNoise', 'LabelNoise', 'Noise', 'wrong_samples']
