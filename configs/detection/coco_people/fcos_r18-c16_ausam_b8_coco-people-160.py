_base_ = './fcos_r18-c16_b8_coco-people-160.py'

# The ramp is the paper's share of the training: 30 epochs of 200.
optim_wrapper = dict(type='AUSAM', rho=0.01, alpha=0.5, ramp_epochs=6)
