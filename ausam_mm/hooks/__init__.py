"""Hooks for MMEngine runners."""

from .channels_last import ChannelsLastHook
from .info_batch import InfoBatchHook
from .score import ScoreHook

__all__ = ['ChannelsLastHook', 'InfoBatchHook', 'ScoreHook']
