"""Run-length encoded masks: pycocotools' own functions."""

from pycocotools.mask import (
    area,
    decode,
    encode,
    frPyObjects,
    iou,
    merge,
    toBbox,
)

__all__ = ['area', 'decode', 'encode', 'frPyObjects', 'iou', 'merge', 'toBbox']
