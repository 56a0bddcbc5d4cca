_base_ = './fcos_r18-c16_b8_coco-people-160.py'

# A radius of 0.05 was too large on COCO.
optim_wrapper = dict(type='SAM', rho=0.01)
