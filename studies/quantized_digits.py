"""4-bit digits with 40 % wrong labels.

The float models:

    python tools/study.py studies/label_noise_digits.py \
        --cases '40 % wrong labels' --only 'SGD, tuned' SAM \
        'AUSAM, low (0.5)' 'uniform (0.5)'
"""

import _quantized_digits as _digits

question = (
    'A network is trained on digits with 40 % wrong labels, quantized to 4 '
    'bits, and trained on with the same labels, both times by the same '
    'method. Does one at the cost of SGD gain what SAM gains? The settings '
    'come from quantized_digits_tuning.py, on other seeds.')

config = _digits.CONFIG

_ausam = dict(type='AUSAM', rho=0.3, alpha=0.5, ramp_epochs=3)
settings = {
    'SGD, tuned': {
        **_digits.wrapper(0.03), **_digits.float_model('SGD-tuned')},
    'SAM': {
        **_digits.wrapper(type='SAM', rho=0.3), **_digits.float_model('SAM')},
    'AUSAM, low (0.5)': {
        **_digits.wrapper(favor='low', **_ausam),
        **_digits.float_model('AUSAM-low-0-5')},
    # The control: are the scores good for anything?
    'uniform (0.5)': {
        **_digits.wrapper(scores='uniform', **_ausam),
        **_digits.float_model('uniform-0-5')},
    # The control: the other learning rate that was good in the tuning.
    'SGD, lr=0.003': {
        **_digits.wrapper(0.003), **_digits.float_model('SGD-tuned')},
    # The controls: is it the float model, or the quantized training?
    "SGD, from SAM's model": {
        **_digits.wrapper(0.03), **_digits.float_model('SAM')},
    "SAM, from SGD's model": {
        **_digits.wrapper(type='SAM', rho=0.3),
        **_digits.float_model('SGD-tuned')},
    # What the float model gains by as much training.
    'float model, trained on': {
        'config': '../configs/classification/digits/'
                  'resnet18-c16-s2_b64_digits-noise40-8x8.py',
        'train_cfg.max_epochs': 20, 'param_scheduler.T_max': 20,
        **_digits.wrapper(0.03), **_digits.float_model('SGD-tuned')},
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [
    ('SAM', 'SGD, tuned'),
    ('AUSAM, low (0.5)', 'SGD, tuned'),
    ('AUSAM, low (0.5)', 'uniform (0.5)'),
]
reading = (
    'Trained and quantized by the same method, SAM gains over SGD outside the '
    "interval, and AUSAM with favor='low' gains as much for about as many "
    'back-propagations as SGD. Uniform samples do as well. Both trainings '
    "count: SAM's float model falls far below when SGD trains it on, whose "
    "learning rate was searched for SGD's own, and from SGD's float model SAM "
    'is ahead of SGD, but not outside the interval. '
    'SGD was searched one option after the other, with another seed, but on '
    'the float model of seed 0. Other trainings ran beside these, so that '
    'seconds say little; in them AUSAM costs more than SGD on so small a '
    'network.')
