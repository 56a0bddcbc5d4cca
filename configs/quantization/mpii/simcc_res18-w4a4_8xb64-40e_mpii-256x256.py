_base_ = '../../pose/mpii/simcc_res18_8xb64-210e_mpii-256x256.py'

model = dict(
    _delete_=True,
    type='LSQModel',
    architecture=_base_.model,
    w_bits=4,
    a_bits=4)

# What training the float config leaves.
load_from = 'work_dirs/simcc_res18_8xb64-210e_mpii-256x256/epoch_210.pth'

# A tenth of the float model's learning rate, as in LSQ's paper.
optim_wrapper = dict(optimizer=dict(lr=5e-5))
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    eta_min=0.,
    T_max=40,
    convert_to_iter_based=True)
train_cfg = dict(max_epochs=40)
