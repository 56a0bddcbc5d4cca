# MobileNetV2 whose stem and second stage keep the size of small images.
_base_ = './resnet18_small-images.py'

model = dict(
    backbone=dict(_delete_=True, type='MobileNetV2_CIFAR'),
    head=dict(in_channels=1280))
