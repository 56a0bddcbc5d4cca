_base_ = './resnet18-c16-w4a4_b64_digits.py'

optim_wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=1)
