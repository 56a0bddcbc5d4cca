_base_ = './resnet18-c16_infobatch_b128_cifar10-2000.py'

optim_wrapper = dict(type='SAM', rho=0.1)
