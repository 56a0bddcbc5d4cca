"""Handwritten digits with 40 % wrong labels: which options suit each method?

The data: tools/dataset_converters/digits.py
"""

import _digits_with_noise as _digits

question = (
    'With 40 % wrong labels, which weight decay, batch, learning rate and rho '
    'suit SGD, SAM, AUSAM and SplitSAM? On seeds that label_noise_digits.py '
    'does not use; its settings come from here.')

config = _digits.CONFIG
options = _digits.OPTIONS
cases = {'40 % wrong labels': _digits.wrong_labels(40)}

settings = {
    f'SGD wd={decay:g}': _digits.wrapper(decay)
    for decay in (5e-4, 5e-3, 2e-2, 5e-2)
}
for _name, _more in {
        'lr=0.03': {'optim_wrapper.optimizer.lr': 0.03},
        'lr=0.3': {'optim_wrapper.optimizer.lr': 0.3},
        'batch=32': {'train_dataloader.batch_size': 32},
        'batch=128': {'train_dataloader.batch_size': 128}}.items():
    settings[f'SGD wd=0.02 {_name}'] = {
        'optim_wrapper.optimizer.weight_decay': 2e-2, **_more}
for _decay, _rhos in ((5e-4, (0.1, 0.3, 0.5)), (2e-2, (0.1, 0.3))):
    for _rho in _rhos:
        settings[f'SAM wd={_decay:g} rho={_rho}'] = _digits.wrapper(
            _decay, type='SAM', rho=_rho)
for _decay, _rho in ((5e-4, 0.3), (2e-2, 0.1), (2e-2, 0.3)):
    _options = dict(type='AUSAM', rho=_rho, ramp_epochs=6)
    settings[f'AUSAM (0.5) wd={_decay:g} rho={_rho}'] = _digits.wrapper(
        _decay, alpha=0.5, **_options)
for _decay, _rho in ((2e-2, 0.3), (5e-2, 0.5)):
    settings[f'SplitSAM wd={_decay:g} rho={_rho}'] = _digits.wrapper(
        _decay, type='SplitSAM', rho=_rho)
seeds = (10, 11)

metric = 'accuracy/top1'
baseline = 'SGD wd=0.0005'
comparison = ('SAM wd=0.0005 rho=0.3', 'SGD wd=0.0005')
