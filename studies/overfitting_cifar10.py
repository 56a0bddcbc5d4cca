"""A network that overfits 2,000 images of CIFAR-10.

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

question = (
    'SAM helps where a network fits its data better than it generalizes. '
    'On 2,000 images of CIFAR-10, and with maps of full size: does AUSAM gain '
    'what SAM gains, at the cost of SGD?')

config = '../configs/classification/cifar10/resnet18-c16_b128_cifar10-2000.py'

# All in one place, also what the config has already.
options = {
    'model.backbone.strides': (1, 2, 2, 2),
    'model.head.loss': dict(
        type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    'optim_wrapper.optimizer.lr': 0.1,
    'optim_wrapper.optimizer.weight_decay': 1e-3,
    'train_dataloader.batch_size': 128,
    'train_cfg.max_epochs': 80,
    'param_scheduler.T_max': 80,
}

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', rho=0.1, ramp_epochs=12)
settings = {
    'SGD': {},
    # What SAM costs.
    'SGD twice as long': {
        'train_cfg.max_epochs': 160,
        'param_scheduler.T_max': 160
    },
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.1)),
    'AUSAM (0.5)': dict(optim_wrapper=dict(_ausam, alpha=0.5)),
    'AUSAM (0.25, 0.75)': dict(
        optim_wrapper=dict(_ausam, alpha=(0.25, 0.75))),
    # The control: are the scores good for anything?
    'uniform (0.25, 0.75)': dict(optim_wrapper=dict(
        _ausam, alpha=(0.25, 0.75), scores='uniform')),
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD'
comparisons = [('AUSAM (0.25, 0.75)', 'SGD')]
