_base_ = './mobilenet-v2-w2a4_b256_cifar100.py'

optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=15)
