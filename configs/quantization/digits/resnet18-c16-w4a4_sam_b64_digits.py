_base_ = './resnet18-c16-w4a4_b64_digits.py'

optim_wrapper = dict(type='SAM', rho=0.1)
