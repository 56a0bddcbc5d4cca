"""Hooks for MMEngine runners."""

from .info_batch import InfoBatchHook

__all__ = ['InfoBatchHook']
