_base_ = './mobilenet-v2-w4a4_b256_cifar10.py'

model = dict(w_bits=2)

# For 2 bits LSQ's paper has a quarter of the weight decay.
optim_wrapper = dict(optimizer=dict(weight_decay=2.5e-4))
