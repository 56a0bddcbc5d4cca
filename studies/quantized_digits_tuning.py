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

_ausam = dict(type='AUSAM', alpha=0.5, ramp_epochs=3)
settings = {}
for _lr, _decay, _batch in (
        (0.001, 5e-3, 32), (0.003, 5e-3, 32), (0.01, 5e-3, 32),
        (0.03, 5e-3, 32), (0.1, 5e-3, 32), (0.03, 5e-4, 32), (0.03, 2e-2, 32),
        (0.03, 5e-3, 64), (0.03, 5e-3, 128)):
    settings[f'SGD lr={_lr} wd={_decay:g} batch={_batch}'] = _digits.wrapper(
        _lr, _decay, _batch)
for _name, _method in {
        'SAM': dict(type='SAM'),
        'AUSAM (0.5)': _ausam,
        'AUSAM, low (0.5)': dict(_ausam, favor='low'),
        'uniform (0.5)': dict(_ausam, scores='uniform'),
        'SplitSAM': dict(type='SplitSAM')}.items():
    for _lr, _batch in ((0.01, 32), (0.03, 32), (0.1, 64)):
        for _rho in (0.1, 0.3, 0.5):
            settings[f'{_name} lr={_lr} wd=0.005 batch={_batch} rho={_rho}'] \
                = _digits.wrapper(_lr, batch_size=_batch, rho=_rho, **_method)
# From float models that were trained by the same method.
_FLOAT = ('work_dirs/studies/label_noise_digits_tuning/40-wrong-labels-{}-'
          'seed-{{seed}}/epoch_40.pth')
for _name, _method, _float in (
        ('SGD', {}, 'SGD-wd-0-005-lr-0-3-batch-32'),
        ('SAM', dict(type='SAM'), 'SAM-wd-0-005-lr-0-1-batch-64-rho-0-3'),
        ('AUSAM, low (0.5)', dict(_ausam, favor='low'),
         'AUSAM-low-0-5-wd-0-005-lr-0-1-batch-64-rho-0-3')):
    for _lr, _rho in ((0.01, 0.3), (0.03, 0.1)):
        _options = dict(_method, rho=_rho) if _method else {}
        settings[f'{_name} from its own lr={_lr}' + f' rho={_rho}' * bool(
            _method)] = dict(_digits.wrapper(_lr, **_options),
                             load_from=_FLOAT.format(_float))
seeds = (10, 11)

metric = 'accuracy/top1'
baseline = 'SGD lr=0.01 wd=0.005 batch=32'
comparisons = [('SAM lr=0.01 wd=0.005 batch=32 rho=0.3', baseline)]
reading = (
    'No ground for SAM: once the learning rate of SGD is searched, SAM is '
    'within a point of it, and AUSAM is not better. quantized_digits.py was '
    'therefore not run.')
