_base_ = './resnet18-w2a4_b256_cifar10.py'

optim_wrapper = dict(type='SAM', rho=0.1)
