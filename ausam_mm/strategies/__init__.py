"""MMEngine strategies for FlexibleRunner."""

from .fsdp import ResumableFSDPStrategy

__all__ = ['ResumableFSDPStrategy']
