"""Digits with 40 % wrong labels, by tools/demo.py."""

import _digits_with_noise as _digits
import label_noise_digits as _study

question = ('Digits with 40 % wrong labels: what does each method gain over '
            'SGD with its own best options, and what does it cost?')
config = _digits.CONFIG
settings = {name: _study.settings[name] for name in (
    'SGD, tuned', 'SAM', 'AUSAM (0.5)', 'AUSAM, low (0.5)')}
seeds = (0, )
metric = _study.metric
comparisons = [('AUSAM, low (0.5)', 'SGD, tuned')]
