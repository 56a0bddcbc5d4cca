"""Handwritten digits with 40 % wrong labels: AUSAM against data pruning.

The data: tools/dataset_converters/digits.py
"""

import random

import _digits_with_noise as _digits

question = (
    'Less data makes SAM cheaper, too. With 40 % wrong labels, what does it '
    'reach at the cost of SGD: on a random half of the data, for half of the '
    'epochs, with InfoBatch, or as AUSAM, with InfoBatch and without? Epochs '
    'with InfoBatch are those that bring its cost to about that of the other '
    'settings. Options are those of label_noise_digits.py.')

config = _digits.CONFIG
options = _digits.wrong_labels(40)

_half = sorted(random.Random(0).sample(range(1442), 721))
_sgd = _digits.wrapper(5e-3, lr=0.3, batch_size=32)
_sam = _digits.wrapper(5e-3, type='SAM', rho=0.3)


def _ausam(ramp_epochs, **options):
    # The ramp is the paper's share of the training: 30 epochs of 200.
    return _digits.wrapper(5e-3, type='AUSAM', rho=0.3, alpha=0.5,
                           ramp_epochs=ramp_epochs, **options)


def _pruned(setting, epochs):
    """A setting with InfoBatch, whose epochs get shorter."""
    return {
        **setting, **_digits.lasting(epochs),
        'train_dataloader.sampler': dict(
            type='InfoBatchSampler', r=0.5, delta=0.875),
        'custom_hooks': [dict(type='InfoBatchHook')],
        'param_scheduler.convert_to_iter_based': False}


settings = {
    'SGD, tuned': _sgd,
    'SAM': _sam,
    'AUSAM, low (0.5)': _ausam(6, favor='low'),
    'uniform (0.5)': _ausam(6, scores='uniform'),
    'SAM, half of the epochs': {**_sam, **_digits.lasting(20)},
    'SAM, half of the data': {
        **_sam, 'train_dataloader.dataset.dataset.indices': _half},
    'SGD, InfoBatch': _pruned(_sgd, 54),
    'SAM, InfoBatch': _pruned(_sam, 27),
    'AUSAM, low (0.5), InfoBatch': _pruned(_ausam(8, favor='low'), 54),
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
comparisons = [
    ('AUSAM, low (0.5)', 'SAM, half of the data'),
    ('AUSAM, low (0.5)', 'SAM, half of the epochs'),
    ('AUSAM, low (0.5)', 'SAM, InfoBatch'),
    ('AUSAM, low (0.5), InfoBatch', 'AUSAM, low (0.5)'),
]
reading = (
    'At the cost of SGD, AUSAM keeps what SAM gains. SAM on a random half '
    'of the data, or for half of the epochs, costs as much and falls behind '
    'AUSAM, outside the interval; half of the epochs with three times the '
    'learning rate do not (label_noise_digits.py). SAM with InfoBatch comes '
    'close to AUSAM, and what AUSAM gains or loses by InfoBatch is within '
    'the interval. SGD with InfoBatch is below SGD in the mean: the samples '
    'above the mean loss, all of which it keeps, are often those with wrong '
    'labels. Uniform samples do as well as AUSAM. The first four settings '
    'are the runs of label_noise_digits.py, with the same configs; the '
    'others ran on a machine that was far busier, so that seconds and '
    'speed-ups here say nothing.')
