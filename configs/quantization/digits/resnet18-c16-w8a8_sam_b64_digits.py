_base_ = './resnet18-c16-w8a8_b64_digits.py'

optim_wrapper = dict(type='SAM', rho=0.1)
