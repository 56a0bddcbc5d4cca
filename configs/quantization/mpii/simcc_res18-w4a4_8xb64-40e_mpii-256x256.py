_base_ = [
    '../../pose/mpii/simcc_res18_8xb64-210e_mpii-256x256.py',
    '../../_base_/lsq.py'
]

custom_imports = _base_.lsq.custom_imports
custom_hooks = _base_.custom_hooks + _base_.lsq.custom_hooks
model = dict(_delete_=True, architecture=_base_.model, **_base_.lsq.model)
load_from = 'work_dirs/simcc_res18_8xb64-210e_mpii-256x256/epoch_210.pth'

optim_wrapper = dict(optimizer=dict(lr=5e-5))
param_scheduler = dict(_delete_=True, T_max=40, **_base_.lsq.param_scheduler)
train_cfg = dict(max_epochs=40)
