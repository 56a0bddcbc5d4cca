"""72 handwritten digits, quantized: which options suit each method?

The float models:

    python tools/study.py studies/overfitting_digits_tuning.py --seeds 10 \
        --only 'SGD wd=0.02 lr=0.1 batch=32' \
        'SAM wd=0.02 lr=0.1 batch=16 rho=0.1' \
        'AUSAM (0.5) wd=0.005 lr=0.1 batch=16 rho=0.3' \
        'SplitSAM wd=0.005 lr=0.1 batch=16 rho=0.3' --again
"""

import itertools

import _quantized_few_digits as _digits

question = (
    'A network of 72 digits is trained on with weights and activations of 4 '
    'bits, by the method that trained the float model: which learning rate, '
    'weight decay and batch suit SGD, and which learning rate and rho suit '
    'SAM, AUSAM and SplitSAM? On a seed that quantized_few_digits.py does not '
    'use; its settings come from here.')

config = _digits.CONFIG
options = _digits.OPTIONS

_floats = {
    'SGD': 'SGD-wd-0-02-lr-0-1-batch-32',
    'SAM': 'SAM-wd-0-02-lr-0-1-batch-16-rho-0-1',
    'AUSAM (0.5)': 'AUSAM-0-5-wd-0-005-lr-0-1-batch-16-rho-0-3',
    'SplitSAM': 'SplitSAM-wd-0-005-lr-0-1-batch-16-rho-0-3',
}
_floats = {name: f'overfitting_digits_tuning/{run}-seed-10'
           for name, run in _floats.items()}
_methods = {
    'SAM': dict(type='SAM'),
    'AUSAM (0.5)': dict(type='AUSAM', alpha=0.5, ramp_epochs=15),
    'SplitSAM': dict(type='SplitSAM'),
}
_lrs = (0.003, 0.01, 0.03)
settings = {
    **{f'SGD lr={lr:g} wd={decay:g} batch={batch}': _digits.wrapper(
        _floats['SGD'], lr, decay, batch)
       for lr, decay, batch in itertools.product(
           (0.001, *_lrs), (5e-3, 2e-2, 5e-2), (16, 32, 64))},
    **{f'{name} lr={lr:g} rho={rho}': _digits.wrapper(
        _floats[name], lr, 5e-3, rho=rho, **method)
       for (name, method), lr, rho in itertools.product(
           _methods.items(), _lrs, (0.1, 0.3))},
}
seeds = (10, )

metric = 'accuracy/top1'
baseline = 'SGD lr=0.01 wd=0.005 batch=16'
comparisons = [('SAM lr=0.01 rho=0.1', baseline)]
reading = (
    'One seed. SGD with its own learning rate, weight decay and batch, all '
    'of whose neighbors are worse, reaches what SAM and AUSAM reach with '
    'theirs.')
