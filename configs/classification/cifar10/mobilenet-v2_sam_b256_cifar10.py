_base_ = './mobilenet-v2_b256_cifar10.py'

optim_wrapper = dict(type='SAM', rho=0.1)
