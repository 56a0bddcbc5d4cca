# 40 % of the labels of 10,000 training images are wrong, and the network, with
# neither augmentation nor label smoothing, learns them by heart.
_base_ = './resnet18-c16_b128_cifar10-2000.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs')
]

model = dict(
    backbone=dict(strides=(1, 2, 2, 2)),
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss')))

train_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        _delete_=True,
        type='LabelNoise',
        ratio=0.4,
        kind='uniform',
        seed=0,
        dataset=dict(
            type='CustomDataset',
            data_root='data/cifar10_10000',
            data_prefix='train',
            with_label=True,
            pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(data_root='data/cifar10_10000'))
test_dataloader = val_dataloader

param_scheduler = dict(T_max=30)
train_cfg = dict(max_epochs=30)
