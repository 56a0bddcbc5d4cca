_base_ = './resnet18-c16_b64_digits.py'

optim_wrapper = dict(type='SAM', rho=0.1)
