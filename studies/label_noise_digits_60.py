"""Handwritten digits with 60 % wrong labels, with options of their own.

The data: tools/dataset_converters/digits.py
"""

import _digits_with_noise as _digits

question = (
    'The options for 40 % wrong labels fail with 60 %. With options that were '
    'searched for 60 %: does a method at the cost of SGD gain what SAM gains, '
    'over SGD with its own best batch, learning rate and weight decay? The '
    'settings come from label_noise_digits_tuning.py, on other seeds.')

config = _digits.CONFIG
options = _digits.wrong_labels(60)

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', rho=0.3, ramp_epochs=6)
_tuned = _digits.wrapper(5e-4, lr=0.03, batch_size=128)
settings = {
    'SGD, tuned': _tuned,
    # What SAM costs.
    'SGD, tuned, twice as long': {
        **_tuned, **_digits.lasting(80)},
    # Who stops early learns fewer wrong labels by heart.
    'SGD, a quarter as long': {
        **_digits.wrapper(5e-4, lr=0.3),
        **_digits.lasting(10)},
    'SGD, half as long': {
        **_digits.wrapper(5e-4, batch_size=128),
        **_digits.lasting(20)},
    'SAM': _digits.wrapper(5e-4, type='SAM', rho=0.3),
    # SAM at the cost of SGD.
    'SAM, half as long': {
        **_digits.wrapper(5e-4, lr=0.3, type='SAM', rho=0.3),
        **_digits.lasting(20)},
    'AUSAM, low (0.25, 0.75)': _digits.wrapper(
        5e-4, alpha=(0.25, 0.75), favor='low', **_ausam),
    # The same, where only what is selected is loaded.
    'AUSAM, low (0.25, 0.75), loader': {
        **_digits.wrapper(5e-4, alpha=(0.25, 0.75), favor='low', **_ausam),
        'train_dataloader.batch_sampler': dict(type='AUSAMBatchSampler')},
    'AUSAM (0.25, 0.75)': _digits.wrapper(
        5e-4, alpha=(0.25, 0.75), **_ausam),
    # The control: are the scores good for anything?
    'uniform (0.25, 0.75)': _digits.wrapper(
        5e-4, alpha=(0.25, 0.75), scores='uniform', **_ausam),
    # The batch of SGD: as many second passes, which a small network waits for.
    'AUSAM, low (0.25, 0.75), batch 128': _digits.wrapper(
        5e-4, lr=0.2, batch_size=128, alpha=(0.25, 0.75), favor='low',
        **_ausam),
    'uniform (0.25, 0.75), batch 128': _digits.wrapper(
        5e-4, lr=0.2, batch_size=128, alpha=(0.25, 0.75), scores='uniform',
        **_ausam),
    'AUSAM, low (0.5)': _digits.wrapper(
        5e-4, alpha=0.5, favor='low', **_ausam),
    'SplitSAM': _digits.wrapper(5e-4, type='SplitSAM', rho=0.3),
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [
    ('SAM', 'SGD, tuned'),
    ('AUSAM, low (0.25, 0.75)', 'SGD, tuned'),
    ('SAM', 'SGD, a quarter as long'),
    ('AUSAM, low (0.25, 0.75)', 'SGD, a quarter as long'),
    ('AUSAM, low (0.25, 0.75)', 'SAM, half as long'),
    ('AUSAM, low (0.25, 0.75)', 'uniform (0.25, 0.75)'),
]
reading = (
    'SAM is far ahead of SGD with its own best options, and AUSAM '
    "(0.25, 0.75) with favor='low' keeps most of that for as many "
    'back-propagations as SGD. But SGD that is trained for a quarter as long, '
    'with a larger learning rate, comes close to both: within the interval. '
    'So does SAM in half of the epochs with a larger learning rate, at the '
    'cost of AUSAM. Twice as long makes SGD worse. '
    "AUSAM with favor='low' is ahead of uniform samples, outside the "
    'interval; with the batch of SGD, which costs both a part of the gain, '
    'the interval contains 0. High scores are behind both. Two passes on half '
    'of the batch and SplitSAM do not resist so many wrong labels. The '
    'options of AUSAM have smaller batches than those of SGD, so it takes '
    'longer on so small a network. Another training ran on the other core.')
