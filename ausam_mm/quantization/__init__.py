"""Quantisation-aware training with learned step sizes (LSQ)."""

from .export import Agreement, compare_onnx, export_onnx
from .fold import fold_batchnorm, unfolded
from .layers import LSQLayer, quantize_layer, quantized_weight
from .lsq import LSQuantizer, StepSize
from .model import LSQModel, quantize_model

__all__ = [
    'Agreement', 'LSQLayer', 'LSQModel', 'LSQuantizer', 'StepSize',
    'compare_onnx', 'export_onnx', 'fold_batchnorm', 'quantize_layer',
    'quantize_model', 'quantized_weight', 'unfolded'
]
