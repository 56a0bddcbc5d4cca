# 40 % of the training labels are wrong, and the network, with two of the four
# stages and neither augmentation nor label smoothing, learns them by heart.
_base_ = './resnet18-c16_b64_digits.py'

train_pipeline = test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs')
]

model = dict(
    backbone=dict(
        num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1, )),
    head=dict(
        in_channels=32, loss=dict(_delete_=True, type='CrossEntropyLoss')))

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='LabelNoise',
        ratio=0.4,
        kind='uniform',
        seed=0,
        dataset=dict(
            type='CustomDataset',
            data_root='data/digits',
            data_prefix='train',
            with_label=True,
            pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

param_scheduler = dict(T_max=40)
train_cfg = dict(max_epochs=40)
