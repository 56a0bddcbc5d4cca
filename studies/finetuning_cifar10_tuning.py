"""Fine-tuning on 2,000 images of CIFAR-10: which options suit each method?

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000; the weights:
tools/model_converters/efficientnet_lite0.py
"""

import itertools

import _finetuning_cifar10 as _cifar

question = (
    'Which learning rate, weight decay and batch suit AdamW and SGD, '
    'and which rho suits SAM, AUSAM and SplitSAM? On seeds that '
    'finetuning_cifar10.py does not use; its settings come from here.')

config = _cifar.CONFIG

# The ramp is the paper's share of the training: 30 epochs of 200.
_methods = {
    'SAM': dict(type='SAM'),
    'AUSAM (0.5)': dict(type='AUSAM', alpha=0.5, ramp_epochs=1),
    'AUSAM (0.25, 0.75)': dict(
        type='AUSAM', alpha=(0.25, 0.75), ramp_epochs=1),
    'SplitSAM': dict(type='SplitSAM'),
}
settings = {
    **{f'AdamW lr={lr:g} wd={decay:g}': _cifar.wrapper(lr, decay)
       for lr, decay in itertools.product(
           (3e-4, 1e-3, 3e-3), (0.01, 0.1, 0.5))},
    **{f'SGD lr={lr:g} wd={decay:g}':
       _cifar.wrapper(lr, decay, optimizer='SGD')
       for lr, decay in itertools.product((3e-3, 1e-2), (1e-4, 1e-3))},
    'AdamW lr=0.001 wd=0.01 batch=64': dict(
        _cifar.wrapper(), train_dataloader=dict(batch_size=64)),
    **{f'{name} rho={rho}': _cifar.wrapper(rho=rho, **method)
       for (name, method), rho in itertools.product(
           _methods.items(), (0.002, 0.005, 0.015))},
}
seeds = (10, 11)

metric = 'accuracy/top1'
baseline = 'AdamW lr=0.001 wd=0.01'
comparisons = [('SAM rho=0.005', baseline)]
