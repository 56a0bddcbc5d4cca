# Semantic FPN on a ResNet-18 with 16 base channels. A config adds the data
# preprocessor and the number of classes.
norm_cfg = dict(type='BN')

model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        stem_channels=16,
        base_channels=16,
        norm_cfg=norm_cfg),
    neck=dict(
        type='FPN', in_channels=[16, 32, 64, 128], out_channels=32,
        num_outs=4),
    decode_head=dict(
        type='FPNHead',
        in_channels=[32] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=32,
        dropout_ratio=0.1,
        norm_cfg=norm_cfg,
        # Pixels without a class do not count.
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
