_base_ = './resnet18-c16_b128_cifar10-2000.py'

# A control: SAM's radius in a random direction.
optim_wrapper = dict(type='RandomSAM', rho=0.1)
