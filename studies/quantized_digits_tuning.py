"""4-bit digits with 40 % wrong labels: which options suit each method?

The float model: see _quantized_digits.py
"""

import _quantized_digits as _digits

question = (
    'Which learning rate, weight decay and batch suit SGD in quantizing a '
    'float model with the wrong labels that it was trained with, and which '
    'rho suits SAM and AUSAM? On seeds that quantized_digits.py does not use; '
    'its settings come from here.')

config = _digits.CONFIG
options = _digits.OPTIONS

_base = dict(lr=0.01, weight_decay=5e-3, batch_size=32)
_ausam = dict(type='AUSAM', alpha=0.5, ramp_epochs=3)
settings = {'SGD lr=0.01 wd=0.005 batch=32': _digits.wrapper(**_base)}
for _change in (dict(lr=0.001), dict(lr=0.003), dict(lr=0.03),
                dict(weight_decay=5e-4), dict(weight_decay=2e-2),
                dict(batch_size=64), dict(batch_size=128),
                dict(lr=0.003, batch_size=128)):
    _new = {**_base, **_change}
    settings['SGD lr={lr} wd={weight_decay:g} batch={batch_size}'.format(
        **_new)] = _digits.wrapper(**_new)
for _name, _method in {
        'SAM': dict(type='SAM'),
        'AUSAM (0.5)': _ausam,
        'AUSAM, low (0.5)': dict(_ausam, favor='low'),
        'uniform (0.5)': dict(_ausam, scores='uniform'),
        'SplitSAM': dict(type='SplitSAM')}.items():
    for _rho in (0.1, 0.3, 0.5):
        settings[f'{_name} rho={_rho}'] = _digits.wrapper(rho=_rho, **_method)
seeds = (10, 11)

metric = 'accuracy/top1'
baseline = 'SGD lr=0.01 wd=0.005 batch=32'
comparisons = [('SAM rho=0.3', baseline)]
