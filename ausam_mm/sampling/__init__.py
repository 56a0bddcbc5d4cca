"""Which samples a training step sees."""

from .batch import (
    batch_size,
    identities,
    keys_of,
    sample_keys,
    shared_index,
    take,
)
from .batch_sampler import (
    SELECTOR,
    WAITING,
    AUSAMBatchSampler,
    counts_epochs,
)
from .history import SampleHistory, gather_observations
from .info_batch import InfoBatchSampler
from .selection import (
    NO_SAMPLES,
    Selection,
    favoring_low,
    inclusion_probabilities,
    num_selected,
    ratio_pair,
    sample_multinomial,
    sample_systematic,
    select_highest,
    select_multinomial,
    select_systematic,
    selection_probabilities,
)

__all__ = [
    'AUSAMBatchSampler', 'InfoBatchSampler', 'NO_SAMPLES', 'SELECTOR',
    'SampleHistory', 'Selection', 'batch_size', 'counts_epochs',
    'favoring_low', 'gather_observations', 'identities',
    'inclusion_probabilities', 'keys_of', 'num_selected', 'ratio_pair',
    'sample_keys', 'sample_multinomial', 'sample_systematic',
    'select_highest', 'select_multinomial', 'select_systematic',
    'selection_probabilities', 'shared_index', 'take', 'WAITING'
]
