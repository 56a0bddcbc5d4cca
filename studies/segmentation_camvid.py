"""Segmentation of street scenes: does AUSAM gain what SAM gains?

The data: tools/dataset_converters/camvid.py
"""

import _segmentation_camvid as _camvid

question = (
    'A Semantic FPN on a small ResNet-18 learns 367 street scenes of 96x72 '
    'pixels in eleven classes: does a method at the cost of SGD gain what SAM '
    'gains? The learning rate comes from segmentation_camvid_tuning.py; rho '
    'is the default, not tuned.')

config = _camvid.CONFIG

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', alpha=0.5, rho=0.05, ramp_epochs=2)
settings = {
    'SGD': _camvid.wrapper(),
    'SAM': _camvid.wrapper(type='SAM', rho=0.05),
    'AUSAM (0.5)': _camvid.wrapper(**_ausam),
    'AUSAM, low (0.5)': _camvid.wrapper(**_ausam, favor='low'),
    # The control: are the scores good for anything?
    'uniform (0.5)': _camvid.wrapper(**_ausam, scores='uniform'),
}
seeds = (0, 1, 2)

metric = 'mIoU'
baseline = 'SGD'
comparisons = [('AUSAM (0.5)', 'SGD'), ('SAM', 'SGD'),
               ('AUSAM (0.5)', 'uniform (0.5)')]
reading = (
    'In so short a training, in which the network is far from learning its '
    'images by heart, SGD is ahead so far: of SAM, and by more of AUSAM and '
    'of its control. As on the few poses, this is no ground for them. Rho was '
    'not tuned, and until all seeds are there no difference is certain. The '
    'machine ran other work beside these trainings: their seconds, and the '
    'speed-up, say nothing.')
