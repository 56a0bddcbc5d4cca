"""Handwritten digits, of whose training labels a fifth is wrong.

The data: tools/dataset_converters/digits.py
"""

import _digits_with_noise as _digits

question = (
    'With 20 % wrong labels the search finds other options than with 40 %, '
    'for SGD and for AUSAM. With these: does a method at the cost of SGD, in '
    'seconds too, gain what SAM gains? The options of all come from '
    'label_noise_digits_tuning.py, on other seeds.')

config = _digits.CONFIG
options = _digits.wrong_labels(20)

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', alpha=0.5, ramp_epochs=6)
_low = dict(_ausam, favor='low')
_tuned = _digits.wrapper(2e-2, lr=0.1, batch_size=32)
settings = {
    'SGD, tuned': _tuned,
    # Who stops early learns fewer wrong labels by heart.
    'SGD, tuned, half as long': {
        **_tuned,
        **_digits.lasting(20)},
    'SGD, a quarter as long': {
        **_digits.wrapper(5e-3, lr=0.3),
        **_digits.lasting(10)},
    'SGD, a quarter as long, batch 32': {
        **_digits.wrapper(5e-3, lr=0.3, batch_size=32),
        **_digits.lasting(10)},
    'SAM': _digits.wrapper(5e-3, type='SAM', rho=0.3),
    # SAM at the cost of SGD.
    'SAM, half as long': {
        **_digits.wrapper(5e-3, lr=0.3, type='SAM', rho=0.3),
        **_digits.lasting(20)},
    'AUSAM, low (0.5)': _digits.wrapper(2e-2, rho=0.1, **_low),
    # Fewer steps, of which each pass sees 64 samples.
    'AUSAM, low (0.5), batch 128': _digits.wrapper(
        1e-2, batch_size=128, rho=0.2, **_low),
    # The control: are the scores good for anything?
    'uniform (0.5), batch 128': _digits.wrapper(
        1e-2, batch_size=128, rho=0.2, scores='uniform', **_ausam),
}
seeds = tuple(range(10))

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [
    ('SAM', 'SGD, tuned'),
    ('SAM, half as long', 'SGD, tuned'),
    ('SAM, half as long', 'SGD, tuned, half as long'),
    ('AUSAM, low (0.5)', 'SGD, tuned'),
    ('AUSAM, low (0.5), batch 128', 'SGD, tuned'),
    ('AUSAM, low (0.5), batch 128', 'SGD, tuned, half as long'),
    ('AUSAM, low (0.5), batch 128', 'SGD, a quarter as long'),
    ('AUSAM, low (0.5), batch 128', 'SGD, a quarter as long, batch 32'),
    ('AUSAM, low (0.5)', 'SGD, a quarter as long, batch 32'),
    ('AUSAM, low (0.5), batch 128', 'SAM, half as long'),
    ('AUSAM, low (0.5), batch 128', 'uniform (0.5), batch 128'),
]
reading = (
    'Over SGD with its own best options SAM gains, outside the interval, '
    'and in half of the epochs with three times the learning rate more in '
    "the mean, for what SGD costs. AUSAM with favor='low' gains no less in "
    'the mean, and with a batch of 128 in fewer seconds than SGD. Uniform '
    'samples are within the interval of low scores. SGD that stops early '
    'gains less than these in the mean, and AUSAM with a batch of 128 is '
    'ahead of it outside the interval. Five seeds had been seen, with the '
    'options of 40 % for AUSAM, before its own were searched and five '
    'seeds added; all were then trained anew, on one day, with another '
    'training on the other core. On the five that had both '
    '(label_noise_digits.py), its own options are better with a batch of '
    '128 and no better with 64: two seeds of a search decide little. With '
    '64 they were first taken before the search had ended, with a weight '
    'decay of 5e-3, and gained half a point less; trained later with the '
    "search's best, 2e-2, that row's seconds are the least comparable.")
