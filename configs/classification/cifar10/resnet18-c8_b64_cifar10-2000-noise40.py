# 40 % of the training labels are wrong, and the network, with neither
# augmentation nor label smoothing, learns them by heart.
_base_ = './resnet18-c16_b128_cifar10-2000.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs')
]

model = dict(
    backbone=dict(base_channels=8),
    head=dict(
        in_channels=64, loss=dict(_delete_=True, type='CrossEntropyLoss')))

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True,
        type='LabelNoise',
        ratio=0.4,
        kind='uniform',
        seed=0,
        dataset=dict(
            type='CustomDataset',
            data_root='data/cifar10_2000',
            data_prefix='train',
            with_label=True,
            pipeline=train_pipeline)))

param_scheduler = dict(T_max=30)
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=64)
