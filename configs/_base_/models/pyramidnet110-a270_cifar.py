# PyramidNet-110 with alpha 270 (Han et al., 2017), from pytorchcv.
_base_ = './resnet18_small-images.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='PytorchCVBackbone',
        model_name='pyramidnet110_a270_cifar10'),
    head=dict(in_channels=286))
