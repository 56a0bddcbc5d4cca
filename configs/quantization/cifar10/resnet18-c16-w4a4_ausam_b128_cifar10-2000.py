_base_ = './resnet18-c16-w4a4_b128_cifar10-2000.py'

optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=5)
