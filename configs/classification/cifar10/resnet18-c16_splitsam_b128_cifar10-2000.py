_base_ = './resnet18-c16_b128_cifar10-2000.py'

optim_wrapper = dict(type='SplitSAM', rho=0.1)
