"""Training loops for MMEngine runners."""

from .exact_resume import (
    ExactResumeEpochBasedTrainLoop,
    ExactResumeIterBasedTrainLoop,
)

__all__ = ['ExactResumeEpochBasedTrainLoop', 'ExactResumeIterBasedTrainLoop']
