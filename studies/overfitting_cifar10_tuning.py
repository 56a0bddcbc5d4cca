"""2,000 images of CIFAR-10: which options suit each method?

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

import itertools

import _overfitting_cifar10 as _cifar

question = (
    'On 2,000 images of CIFAR-10 and with maps of full size, which weight '
    'decay, learning rate and batch suit SGD, one searched after the other, '
    'and which batch and rho suit SAM, AUSAM and SplitSAM? On a seed that '
    'overfitting_cifar10.py does not use; its settings come from here.')

config = _cifar.CONFIG
options = _cifar.OPTIONS

_sgd = [(1e-3, 0.1, 128), (1e-3, 0.1, 64), (1e-3, 0.1, 32),
        (3e-4, 0.1, 64), (3e-3, 0.1, 64), (1e-2, 0.1, 64),
        (3e-3, 0.03, 64), (3e-3, 0.3, 64)]
_others = [*itertools.product((1e-3, 3e-3), (128, 64), (0.1, 0.2))]
# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', ramp_epochs=12)
_methods = {
    'SAM': dict(type='SAM'),
    'AUSAM (0.5)': dict(_ausam, alpha=0.5),
    'AUSAM (0.25, 0.75)': dict(_ausam, alpha=(0.25, 0.75)),
    'SplitSAM': dict(type='SplitSAM'),
}
settings = {
    **{f'SGD wd={decay:g} lr={lr} batch={batch}':
       _cifar.wrapper(decay, lr, batch) for decay, lr, batch in _sgd},
    **{f'{name} wd={decay:g} batch={batch} rho={rho}':
       _cifar.wrapper(decay, 0.1, batch, rho=rho, **method)
       for (name, method), (decay, batch, rho) in itertools.product(
           _methods.items(), _others)},
}
seeds = (10, )

metric = 'accuracy/top1'
baseline = 'SGD wd=0.003 lr=0.1 batch=64'
comparisons = [('SAM wd=0.003 batch=64 rho=0.1', baseline)]
reading = (
    'One seed. For SGD three values each of the batch, the weight decay and '
    'the learning rate were searched, one after the other: it is best with '
    'three times the usual weight decay and a batch of 64, and worse on '
    'either side in each of the three. With the same options SAM is where '
    'SGD is, with a larger rho behind. With the usual weight decay AUSAM and '
    'SplitSAM are behind both; their options were not searched any further. '
    'Another training ran on the other core.')
