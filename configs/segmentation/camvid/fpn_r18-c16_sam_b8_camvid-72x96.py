_base_ = './fpn_r18-c16_b8_camvid-72x96.py'

optim_wrapper = dict(type='SAM', rho=0.05)
