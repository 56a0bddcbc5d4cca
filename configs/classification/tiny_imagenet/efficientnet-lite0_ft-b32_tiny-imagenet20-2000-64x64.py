_base_ = '../cifar10/efficientnet-lite0_ft-b32_cifar10-2000-64x64.py'

data_preprocessor = dict(num_classes=20)
model = dict(head=dict(num_classes=20))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, padding=8),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]

train_dataloader = dict(
    dataset=dict(
        data_root='data/tiny_imagenet20_2000', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        data_root='data/tiny_imagenet20_2000', pipeline=test_pipeline))
test_dataloader = val_dataloader
