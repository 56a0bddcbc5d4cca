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
    'No difference is certain: all intervals are wide and contain zero. The '
    'mean of SGD is the highest, that of SAM the next; AUSAM and its control '
    'are alike. In so short a training the network is far from learning its '
    'images by heart, so that this is no ground for SAM, and rho was not '
    'tuned. The machine ran other work beside these trainings: their '
    'seconds, and the speed-up, say nothing.')
