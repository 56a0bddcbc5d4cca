"""Fine-tuning with 4-bit weights and inputs, from a float model.

The float model:

    python tools/train.py \
        configs/classification/cifar10/resnet18-c16_b128_cifar10-2000.py \
        --work-dir work_dirs/float_c8 --cfg-options \
        model.backbone.base_channels=8 model.backbone.stem_channels=8 \
        model.head.in_channels=64
"""

question = 'What do SAM and AUSAM gain in fine-tuning a 4-bit classifier?'

config = ('../configs/quantization/cifar10/'
          'resnet18-c16-w4a4_b128_cifar10-2000.py')

options = {
    'load_from': 'work_dirs/float_c8/epoch_80.pth',
    'model.architecture.backbone.base_channels': 8,
    'model.architecture.backbone.stem_channels': 8,
    'model.architecture.head.in_channels': 64,
}

_ausam = dict(type='AUSAM', rho=0.1, ramp_epochs=5)
settings = {
    'SGD': {},
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.1)),
    'AUSAM (0.5)': dict(optim_wrapper=dict(_ausam, alpha=0.5)),
    'AUSAM (0.25, 0.75)': dict(
        optim_wrapper=dict(_ausam, alpha=(0.25, 0.75))),
}
seeds = (0, 1)

metric = 'accuracy/top1'
comparisons = [('AUSAM (0.25, 0.75)', 'SGD')]
