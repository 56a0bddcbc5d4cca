_base_ = '../../classification/digits/resnet18-c16_b64_digits.py'

model = dict(
    _delete_=True,
    type='LSQModel',
    architecture=_base_.model,
    w_bits=4,
    a_bits=4)

# What training the float config leaves.
load_from = 'work_dirs/resnet18-c16_b64_digits/epoch_12.pth'

# A tenth of the float model's learning rate, as in LSQ's paper.
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(
        custom_keys={'quantizer.step': dict(decay_mult=0.)}))
param_scheduler = dict(T_max=4)
train_cfg = dict(max_epochs=4)
