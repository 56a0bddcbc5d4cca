"""Segmentation of street scenes: which learning rate suits SGD?

The data: tools/dataset_converters/camvid.py
"""

import _segmentation_camvid as _camvid

question = (
    'Which learning rate suits SGD on CamVid? On a seed that '
    'segmentation_camvid.py does not use; its learning rate comes from here.')

config = _camvid.CONFIG

settings = {f'SGD lr={lr:g}': _camvid.wrapper(lr)
            for lr in (0.02, 0.05, 0.1, 0.2)}
seeds = (10, )

metric = 'mIoU'
baseline = 'SGD lr=0.1'
comparisons = [('SGD lr=0.2', baseline)]
reading = (
    'One seed: a learning rate inside of the grid is best, with less on '
    'either side. The machine ran other work, so that seconds say nothing.')
