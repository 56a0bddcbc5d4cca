_base_ = './mobilenet-v1_b128_tiny-imagenet.py'

optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5)
