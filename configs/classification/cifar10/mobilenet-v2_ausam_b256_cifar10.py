_base_ = './mobilenet-v2_b256_cifar10.py'

optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5)
