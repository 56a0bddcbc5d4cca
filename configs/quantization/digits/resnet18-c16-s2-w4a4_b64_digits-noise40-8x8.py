_base_ = [
    '../../classification/digits/resnet18-c16-s2_b64_digits-noise40-8x8.py',
    '../../_base_/lsq.py'
]

custom_imports = _base_.lsq.custom_imports
custom_hooks = _base_.lsq.custom_hooks
model = dict(_delete_=True, architecture=_base_.model, **_base_.lsq.model)
load_from = 'work_dirs/resnet18-c16-s2_b64_digits-noise40-8x8/epoch_40.pth'

optim_wrapper = dict(
    optimizer=dict(lr=0.01), paramwise_cfg=_base_.lsq.paramwise_cfg)
param_scheduler = dict(T_max=20)
train_cfg = dict(max_epochs=20)
