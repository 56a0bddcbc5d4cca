_base_ = './mobilenet-v1_b128_tiny-imagenet.py'

optim_wrapper = dict(type='SAM', rho=0.1)
