# EfficientNet-Lite0 trained on ImageNet, from timm, with the weights that
# tools/model_converters/efficientnet_lite0.py writes.
_base_ = './resnet18_small-images.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='data/pretrained/efficientnet-lite0_in1k.pth',
            prefix='backbone.')),
    head=dict(
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss', _delete_=True)))
