_base_ = './simcc_res18-w4a4_8xb64-40e_mpii-256x256.py'

# A radius to start from; not tuned.
optim_wrapper = dict(type='SAM', rho=0.01)
