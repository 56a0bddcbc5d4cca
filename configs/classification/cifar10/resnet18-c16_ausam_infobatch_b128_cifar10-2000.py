_base_ = './resnet18-c16_infobatch_b128_cifar10-2000.py'

# The ramp is the paper's share of the training: 30 epochs of 200.
optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=12)
