"""The version of ausam_mm."""

__version__ = '0.1.0'
