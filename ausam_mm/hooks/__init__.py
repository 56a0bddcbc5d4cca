"""Hooks for MMEngine runners."""

from .channels_last import ChannelsLastHook
from .cpu_amp import CPUAmpHook
from .info_batch import InfoBatchHook
from .score import ScoreHook

__all__ = ['CPUAmpHook', 'ChannelsLastHook', 'InfoBatchHook', 'ScoreHook']
