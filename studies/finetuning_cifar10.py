"""A classifier from ImageNet that learns 2,000 images of CIFAR-10.

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000; the weights:
tools/model_converters/efficientnet_lite0.py
"""

import _finetuning_cifar10 as _cifar

question = (
    'EfficientNet-Lite0 from ImageNet is fine-tuned on 2,000 images of '
    'CIFAR-10 at 64x64: does a method at the cost of AdamW gain what SAM '
    'gains? The settings come from finetuning_cifar10_tuning.py.')

config = _cifar.CONFIG

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', rho=0.005, ramp_epochs=1)
settings = {
    'AdamW': _cifar.wrapper(),
    'SAM': _cifar.wrapper(type='SAM', rho=0.005),
    'AUSAM (0.5)': _cifar.wrapper(alpha=0.5, **_ausam),
    'AUSAM (0.25, 0.75)': _cifar.wrapper(alpha=(0.25, 0.75), **_ausam),
    # The controls: are the scores good for anything?
    'uniform (0.5)': _cifar.wrapper(alpha=0.5, scores='uniform', **_ausam),
    'uniform (0.25, 0.75)': _cifar.wrapper(
        alpha=(0.25, 0.75), scores='uniform', **_ausam),
    'SplitSAM': _cifar.wrapper(type='SplitSAM', rho=0.005),
}
seeds = (0, 1, 2)

metric = 'accuracy/top1'
baseline = 'AdamW'
comparisons = [('AUSAM (0.5)', 'AdamW'), ('AUSAM (0.25, 0.75)', 'AdamW'),
               ('SplitSAM', 'AdamW'), ('SAM', 'AdamW')]
