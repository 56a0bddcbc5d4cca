_base_ = '../../pose/lspet/simcc_res18_b32_lspet-128x96.py'

model = dict(
    _delete_=True,
    type='LSQModel',
    architecture=_base_.model,
    w_bits=4,
    a_bits=4)

# What training the float config leaves.
load_from = 'work_dirs/simcc_res18_b32_lspet-128x96/epoch_20.pth'

# A tenth of the float model's learning rate, as in LSQ's paper.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    eta_min=0.,
    T_max=8,
    convert_to_iter_based=True)
train_cfg = dict(max_epochs=8)
