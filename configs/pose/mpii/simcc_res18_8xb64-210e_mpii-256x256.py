_base_ = './simcc_res50_8xb64-210e_mpii-256x256.py'

model = dict(
    backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
    head=dict(in_channels=512))
