"""CIFAR-10, 10,000 images, 40 % wrong labels: which options suit each method?

The data: tools/dataset_converters/cifar.py SOURCE --num-train 10000 \
    --out data/cifar10_10000
"""

import itertools

import _cifar10_10000_with_noise as _cifar

question = (
    'With 40 % wrong labels among 10,000 images of CIFAR-10, which weight '
    'decay, learning rate and batch suit SGD, one searched after the other, '
    'and which weight decay, batch and rho suit SAM and AUSAM? On a seed that '
    'label_noise_cifar10_10000.py does not use; its settings come from here.')

config = _cifar.CONFIG

_sgd = [(1e-3, 0.1, 128), (5e-3, 0.1, 128), (1e-2, 0.1, 128),
        (2e-2, 0.1, 128), (5e-3, 0.03, 128), (5e-3, 0.3, 128),
        (5e-3, 0.1, 64), (5e-3, 0.1, 256), (1e-2, 0.1, 64)]
_others = [*itertools.product((1e-3, 5e-3), (128, ), (0.1, 0.2)),
           (5e-3, 64, 0.1)]
# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', alpha=0.5, favor='low', ramp_epochs=4)
settings = {
    **{f'SGD wd={decay:g} lr={lr} batch={batch}':
       _cifar.wrapper(decay, lr, batch) for decay, lr, batch in _sgd},
    **{f'{name} wd={decay:g} batch={batch} rho={rho}':
       _cifar.wrapper(decay, 0.1, batch, rho=rho, **method)
       for (name, method), (decay, batch, rho) in itertools.product(
           {'SAM': dict(type='SAM'), 'AUSAM, low (0.5)': _ausam}.items(),
           _others)},
}
seeds = (10, )

metric = 'accuracy/top1'
baseline = 'SGD wd=0.001 lr=0.1 batch=128'
comparisons = [('SAM wd=0.001 batch=128 rho=0.1', baseline)]
reading = (
    'Begun: most of the settings of SGD, one seed. A weight decay of ten '
    'times the usual is the best so far, as on digits; twice that fails.')
