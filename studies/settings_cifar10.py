"""Few images, and maps of half the usual size.

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

question = (
    'With 2,000 images of CIFAR-10 and 80 epochs, in which the network does '
    'not fit its data yet: what do SAM and AUSAM gain?')

config = '../configs/classification/cifar10/resnet18-c16_b128_cifar10-2000.py'

_ausam = dict(type='AUSAM', rho=0.1, ramp_epochs=12)
settings = {
    'SGD': {},
    'SGD twice as long': {
        'train_cfg.max_epochs': 160,
        'param_scheduler.T_max': 160
    },
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.1)),
    'AUSAM (0.5)': dict(optim_wrapper=dict(_ausam, alpha=0.5)),
    'AUSAM (0.25, 0.75)': dict(
        optim_wrapper=dict(_ausam, alpha=(0.25, 0.75))),
    'uniform (0.25, 0.75)': dict(optim_wrapper=dict(
        type='AUSAM', rho=0.1, alpha=(0.25, 0.75), scores='uniform')),
}
seeds = (0, 1)

metric = 'accuracy/top1'
comparisons = [('AUSAM (0.25, 0.75)', 'SGD')]
