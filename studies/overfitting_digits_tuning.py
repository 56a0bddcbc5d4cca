"""72 handwritten digits: which options suit each method?

The data: tools/dataset_converters/digits.py
"""

import itertools

import _overfitting_digits as _digits

question = (
    'With 72 clean images, which weight decay, learning rate and batch suit '
    'SGD, and which weight decay, batch and rho suit SAM, AUSAM and SplitSAM? '
    'On seeds that overfitting_digits.py does not use; its settings come from '
    'here.')

config = _digits.CONFIG
options = {**_digits.OPTIONS, **_digits.images(72)}

_sgd = itertools.product((5e-4, 5e-3, 2e-2), (0.03, 0.1, 0.3), (16, 32, 64))
_others = [*itertools.product((5e-3, 2e-2), (16, 32), (0.1, 0.3))]
_usual = [*itertools.product((5e-4, ), (16, 32), (0.1, 0.3, 0.5))]
_methods = {
    'SAM': dict(type='SAM'),
    'AUSAM (0.5)': dict(type='AUSAM', alpha=0.5),
    'AUSAM (0.25, 0.75)': dict(type='AUSAM', alpha=(0.25, 0.75)),
    'SplitSAM': dict(type='SplitSAM'),
}
settings = {
    **{f'SGD wd={decay:g} lr={lr} batch={batch}':
       _digits.wrapper(decay, lr, batch) for decay, lr, batch in _sgd},
    **{f'{name} wd={decay:g} lr=0.1 batch={batch} rho={rho}':
       _digits.wrapper(decay, 0.1, batch, rho=rho, **method)
       for (name, method), (decay, batch, rho) in [
           *itertools.product((('SAM', _methods['SAM']), ), _usual),
           *itertools.product(_methods.items(), _others)]},
    # With the weight decay, learning rate and batch of AUSAM.
    **{f'{name} wd=0.005 lr=0.1 batch=16 rho={rho:g}':
       _digits.wrapper(5e-3, 0.1, 16, rho=rho, type=name)
       for name, rho in [
           *itertools.product(('SAMPa', 'ESAM', 'AESAM'), (0.1, 0.3)),
           # One step of momentum: its rho is another measure.
           ('MSAM', 1.), ('MSAM', 3.)]},
}
seeds = (10, 11)

metric = 'accuracy/top1'
baseline = 'SGD wd=0.0005 lr=0.1 batch=16'
comparisons = [('SAM wd=0.005 lr=0.1 batch=16 rho=0.3', baseline)]
reading = (
    'A weight decay of forty times the usual and a higher learning rate each '
    'gain SGD several points. With that weight decay SAM fails with a rho of '
    '0.3, and AUSAM (0.5) with 0.1, too, so that the two are to be searched '
    'together. On a second seed the best of each method differ by a point or '
    'two, about as much as the methods.')
