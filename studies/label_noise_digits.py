"""Handwritten digits, of whose training labels some are wrong.

The data: tools/dataset_converters/digits.py
"""

import _digits_with_noise as _digits

question = (
    'A network that is trained long enough learns wrong labels by heart, and '
    'SAM is known to resist. With 0, 20, 40 and 60 % wrong labels: does a '
    'method at the cost of SGD gain what SAM gains, over SGD with its own '
    'best batch, learning rate and weight decay? The settings come from '
    'label_noise_digits_tuning.py, on other seeds and 40 % wrong labels.')

config = _digits.CONFIG
cases = {f'{percent} % wrong labels': _digits.wrong_labels(percent)
         for percent in (40, 20, 60, 0)}

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', rho=0.3, ramp_epochs=6)
_tuned = _digits.wrapper(5e-3, lr=0.3, batch_size=32)
settings = {
    'SGD, tuned': _tuned,
    # What SAM costs.
    'SGD, tuned, twice as long': {
        **_tuned, **_digits.lasting(80)},
    # Who stops early learns fewer wrong labels by heart.
    'SGD, a quarter as long': {
        **_digits.wrapper(5e-3, lr=0.3),
        **_digits.lasting(10)},
    'SGD': _digits.wrapper(5e-4),
    'SAM': _digits.wrapper(5e-3, type='SAM', rho=0.3),
    # SAM at the cost of SGD.
    'SAM, half as long': {
        **_digits.wrapper(5e-3, lr=0.3, type='SAM', rho=0.3),
        **_digits.lasting(20)},
    'AUSAM, low (0.5)': _digits.wrapper(
        5e-3, alpha=0.5, favor='low', **_ausam),
    # The same, where only what is selected is loaded.
    'AUSAM, low (0.5), loader': {
        **_digits.wrapper(5e-3, alpha=0.5, favor='low', **_ausam),
        'train_dataloader.batch_sampler': dict(type='AUSAMBatchSampler')},
    # Fewer steps, of which each pass sees 64 samples.
    'AUSAM, low (0.5), batch 128': _digits.wrapper(
        5e-3, lr=0.2, batch_size=128, alpha=0.5, favor='low', **_ausam),
    'uniform (0.5), batch 128': _digits.wrapper(
        5e-3, lr=0.2, batch_size=128, alpha=0.5, scores='uniform', **_ausam),
    'AUSAM (0.5)': _digits.wrapper(5e-3, alpha=0.5, **_ausam),
    # The control: are the scores good for anything?
    'uniform (0.5)': _digits.wrapper(
        5e-3, alpha=0.5, scores='uniform', **_ausam),
    'AUSAM, low (0.25, 0.75)': _digits.wrapper(
        5e-3, alpha=(0.25, 0.75), favor='low', **_ausam),
    'SplitSAM': _digits.wrapper(5e-3, type='SplitSAM', rho=0.3),
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [
    ('SAM', 'SGD, tuned'),
    ('AUSAM, low (0.5)', 'SGD, tuned'),
    ('SAM', 'SGD, a quarter as long'),
    ('AUSAM, low (0.5)', 'SGD, a quarter as long'),
    ('AUSAM, low (0.5)', 'SAM, half as long'),
    ('AUSAM, low (0.5)', 'SAM'),
    ('AUSAM, low (0.5), batch 128', 'SGD, tuned'),
    ('AUSAM, low (0.5), batch 128', 'SGD, a quarter as long'),
    ('AUSAM, low (0.5), batch 128', 'uniform (0.5), batch 128'),
    ('AUSAM, low (0.5)', 'uniform (0.5)'),
]
reading = (
    'With 40 % wrong labels SAM gains over SGD with its own best options, '
    "outside the interval, and AUSAM with favor='low' gains as much for as "
    'many back-propagations as SGD. With 20 % the same, but SGD has better '
    'options there, and AUSAM with a batch of 128 '
    '(label_noise_digits_20.py). With a batch of 128 AUSAM takes fewer '
    'seconds than SGD, gains no less than SAM with 20 %, and most of it '
    'with 40 %, where the interval reaches 0. Uniform samples do as well: '
    'what helps are the two passes, not the scores. So does SAM for half '
    'as many epochs with three times the learning rate, which costs what '
    "AUSAM costs. The paper's preference for high scores loses the gain at "
    '40 %, where high scores are often wrong labels. Most of what SAM '
    'gains over SGD with the usual options SGD gains by its own. Training '
    'twice as long makes it no better. For a quarter as long it is as good '
    'at 40 %, and at 20 % it gains most of what SAM gains; AUSAM with '
    "favor='low' stays ahead of it outside the interval in both. Without "
    'wrong labels nothing is ahead of SGD outside the interval. The '
    'options of 40 % fail with 60 % wrong labels, those of SGD first (one '
    'seed). So small a network waits for Python: with the usual batch '
    'AUSAM takes longer than SGD, also where the loader selects. The '
    'seconds at 40 % are of one day, with another training on the other '
    'core, those of the other cases of several: do not compare the latter.')
