"""4-bit digits with 40 % wrong labels.

The float model: see _quantized_digits.py
"""

import _quantized_digits as _digits

question = (
    'A float model, which SGD trained with its own best options on digits '
    'with 40 % wrong labels, is quantized to 4 bits and trained on with the '
    'same wrong labels. Does a method at the cost of SGD gain what SAM gains? '
    'The settings come from quantized_digits_tuning.py, on other seeds.')

config = _digits.CONFIG
options = _digits.OPTIONS

_ausam = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=3)
settings = {
    'SGD, tuned': _digits.wrapper(0.03),
    'SAM': _digits.wrapper(0.03, type='SAM', rho=0.1),
    'AUSAM, low (0.5)': _digits.wrapper(0.03, favor='low', **_ausam),
    'AUSAM (0.5)': _digits.wrapper(0.03, **_ausam),
    # The control: are the scores good for anything?
    'uniform (0.5)': _digits.wrapper(0.03, scores='uniform', **_ausam),
    # The control: what the float model gains by as much training.
    'float model, trained on': {
        'config': '../configs/classification/digits/'
                  'resnet18-c16-s2_b64_digits-noise40-8x8.py',
        'train_cfg.max_epochs': 20, 'param_scheduler.T_max': 20,
        **_digits.wrapper(0.03)},
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [
    ('SAM', 'SGD, tuned'),
    ('AUSAM, low (0.5)', 'SGD, tuned'),
    ('AUSAM, low (0.5)', 'uniform (0.5)'),
]
