"""Quantization-aware training with learned step sizes (LSQ).

Importing it registers LSQModel and StepSizeHook with MMEngine.
"""

from .export import Agreement, compare_onnx, export_onnx
from .fold import fold_batchnorm, unfolded
from .hook import StepSizeHook
from .layers import LSQLayer, quantize_layer, quantized_weight
from .lsq import LSQuantizer
from .model import LSQModel, quantize_model
from .step_size import StepSize, guard_step_sizes

__all__ = [
    'Agreement', 'LSQLayer', 'LSQModel', 'LSQuantizer', 'StepSize',
    'StepSizeHook', 'compare_onnx', 'export_onnx', 'fold_batchnorm',
    'guard_step_sizes', 'quantize_layer', 'quantize_model',
    'quantized_weight', 'unfolded'
]
