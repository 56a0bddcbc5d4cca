# MobileNetV2 whose stem and second stage keep the size of small images.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='MobileNetV2_CIFAR'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=1280,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
