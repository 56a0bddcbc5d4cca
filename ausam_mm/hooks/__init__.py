"""Hooks for MMEngine runners."""

from .channels_last import ChannelsLastHook
from .info_batch import InfoBatchHook

__all__ = ['ChannelsLastHook', 'InfoBatchHook']
