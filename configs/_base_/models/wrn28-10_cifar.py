# WRN-28-10 (Zagoruyko and Komodakis, 2016), from pytorchcv.
_base_ = './resnet18_small-images.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='PytorchCVBackbone',
        model_name='wrn28_10_cifar10'),
    head=dict(in_channels=640))
