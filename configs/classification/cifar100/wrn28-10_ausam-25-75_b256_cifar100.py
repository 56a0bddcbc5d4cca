_base_ = './wrn28-10_b256_cifar100.py'

# At the cost of SGD, as 0.5; the two ratios are this project's.
optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=(0.25, 0.75))
