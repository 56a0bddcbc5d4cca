# MobileNetV1, from timm.
_base_ = './resnet18_small-images.py'

model = dict(
    backbone=dict(
        _delete_=True, type='TIMMBackbone', model_name='mobilenetv1_100'),
    head=dict(in_channels=1024))
