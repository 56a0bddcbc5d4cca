"""Every method with its defaults, none tuned.

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

question = (
    'How do the methods compare with their defaults, on 2,000 images of '
    'CIFAR-10 and a ResNet-18 with 8 base channels?')

config = '../configs/classification/cifar10/resnet18-c16_b128_cifar10-2000.py'

options = {
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.head.in_channels': 64,
}


def _method(name, **own):
    return dict(optim_wrapper=dict(type=name, **own))


settings = {
    'SGD': {},
    'SGD twice as long': {
        'train_cfg.max_epochs': 160,
        'param_scheduler.T_max': 160
    },
    'SAM': _method('SAM'),
    'AUSAM (0.5)': _method('AUSAM', alpha=0.5),
    'AUSAM (0.6)': _method('AUSAM', alpha=0.6),
    'AUSAM (0.25, 0.75)': _method('AUSAM', alpha=(0.25, 0.75)),
    'uniform (0.25, 0.75)': _method(
        'AUSAM', alpha=(0.25, 0.75), scores='uniform'),
    'loss (0.25, 0.75)': _method('AUSAM', alpha=(0.25, 0.75), scores='loss'),
    **{name: _method(name)
       for name in ('ESAM', 'LookSAM', 'AESAM', 'KSAM', 'MSAM')},
    'InfoBatch': {
        'train_dataloader.sampler.type': 'InfoBatchSampler',
        'default_hooks.infobatch.type': 'InfoBatchHook',
        'param_scheduler.convert_to_iter_based': False
    },
}
seeds = (0, 1)

metric = 'accuracy/top1'
comparisons = [('AUSAM (0.25, 0.75)', 'SGD')]
