_base_ = './resnet18_b256_cifar100.py'

# Published: over 70 % faster than SAM, with an alpha of about 0.6.
optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.6)
