_base_ = [
    '../../classification/cifar10/resnet18-c16_b128_cifar10-2000.py',
    '../../_base_/lsq.py'
]

custom_imports = _base_.lsq.custom_imports
custom_hooks = _base_.lsq.custom_hooks
model = dict(_delete_=True, architecture=_base_.model, **_base_.lsq.model)
load_from = 'work_dirs/resnet18-c16_b128_cifar10-2000/epoch_80.pth'

optim_wrapper = dict(
    optimizer=dict(lr=0.01), paramwise_cfg=_base_.lsq.paramwise_cfg)
param_scheduler = dict(T_max=30)
train_cfg = dict(max_epochs=30)
