_base_ = '../../classification/cifar10/resnet18_b256_cifar10.py'

model = dict(
    _delete_=True,
    type='LSQModel',
    architecture=_base_.model,
    w_bits=4,
    a_bits=4)

# What training the float config leaves.
load_from = 'work_dirs/resnet18_b256_cifar10/epoch_200.pth'

# A tenth of the float model's learning rate, as in LSQ's paper.
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(
        custom_keys={'quantizer.step': dict(decay_mult=0.)}))
param_scheduler = dict(T_max=100)
train_cfg = dict(max_epochs=100)
