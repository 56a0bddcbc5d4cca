_base_ = './resnet50_b128_tiny-imagenet.py'

optim_wrapper = dict(type='SAM', rho=0.1)
