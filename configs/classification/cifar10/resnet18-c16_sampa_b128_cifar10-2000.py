_base_ = './resnet18-c16_b128_cifar10-2000.py'

optim_wrapper = dict(type='SAMPa', rho=0.1, lmbda=0.2)
