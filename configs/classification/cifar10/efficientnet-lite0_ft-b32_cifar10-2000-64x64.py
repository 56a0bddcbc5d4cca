_base_ = [
    '../../_base_/models/efficientnet-lite0_in1k.py',
    '../../_base_/datasets/cifar10_2000.py',
    '../../_base_/schedules/cifar10_2000.py', '../../_base_/cls_runtime.py'
]

# As EfficientNet-Lite0 was trained.
data_preprocessor = dict(mean=[127.] * 3, std=[128.] * 3)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='Resize', scale=64),
    dict(type='PackInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64),
    dict(type='PackInputs')
]

train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

custom_hooks = [dict(type='ChannelsLastHook')]

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='AdamW', lr=1e-3, weight_decay=0.01))
param_scheduler = dict(T_max=5)
train_cfg = dict(max_epochs=5, val_interval=1)
auto_scale_lr = dict(base_batch_size=32)
