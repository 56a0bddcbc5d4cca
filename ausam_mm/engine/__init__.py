"""How one training step runs."""

from .param_state import ParamState
from .perturbation import Perturbation, gradients, vector_dot, vector_norm
from .randomness import common_seed, step_generator, uniform
from .step import Step
from .wrapper import TwoPassOptimWrapper

__all__ = [
    'ParamState', 'Perturbation', 'Step', 'TwoPassOptimWrapper',
    'common_seed', 'gradients', 'step_generator', 'uniform', 'vector_dot',
    'vector_norm'
]
