_base_ = './resnet18-w2a4_b256_cifar10.py'

optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=15)
