_base_ = './mobilenet-v2-w4a4_b256_cifar10.py'

optim_wrapper = dict(type='SAM', rho=0.1)
