_base_ = './simcc_res18-c16-w4a4_b64_figures-64x64.py'

optim_wrapper = dict(type='AUSAM', rho=0.002, alpha=0.5, ramp_epochs=1)
