"""Which samples a training step sees."""

from .batch import batch_size, sample_keys, take
from .batch_sampler import (
    DRAWER,
    AUSAMBatchSampler,
    counts_epochs,
    draw_of,
    tickets_of,
)
from .history import SampleHistory, gather_observations
from .info_batch import InfoBatchSampler
from .selection import (
    Draw,
    draw_multinomial,
    draw_systematic,
    inclusion_probabilities,
    num_drawn,
    selection_probabilities,
)

__all__ = [
    'AUSAMBatchSampler', 'DRAWER', 'Draw', 'InfoBatchSampler',
    'SampleHistory', 'batch_size', 'counts_epochs', 'draw_multinomial',
    'draw_of', 'draw_systematic', 'gather_observations',
    'inclusion_probabilities', 'num_drawn', 'sample_keys',
    'selection_probabilities', 'take', 'tickets_of'
]
