_base_ = './mobilenet-v2-w2a4_b256_cifar10.py'

optim_wrapper = dict(type='SAM', rho=0.1)
