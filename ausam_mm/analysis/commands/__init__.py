"""The sub-commands of tools/analyze.py: a file each, with its ``main``."""
