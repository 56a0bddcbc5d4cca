# ResNet-18 for small images with 16 base channels, a quarter of the usual.
_base_ = './resnet18_small-images.py'

model = dict(backbone=dict(base_channels=16), head=dict(in_channels=128))
