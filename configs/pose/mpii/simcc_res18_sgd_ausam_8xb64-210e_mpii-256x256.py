_base_ = './simcc_res18_sgd_8xb64-210e_mpii-256x256.py'

# A radius to start from; not tuned.
optim_wrapper = dict(type='AUSAM', rho=0.01, alpha=0.5, ramp_epochs=32)
