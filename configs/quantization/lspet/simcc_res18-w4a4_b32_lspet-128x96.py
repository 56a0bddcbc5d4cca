_base_ = [
    '../../pose/lspet/simcc_res18_b32_lspet-128x96.py',
    '../../_base_/lsq.py'
]

custom_imports = _base_.lsq.custom_imports
custom_hooks = _base_.lsq.custom_hooks
model = dict(_delete_=True, architecture=_base_.model, **_base_.lsq.model)
load_from = 'work_dirs/simcc_res18_b32_lspet-128x96/epoch_20.pth'

optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = dict(_delete_=True, T_max=8, **_base_.lsq.param_scheduler)
train_cfg = dict(max_epochs=8)
