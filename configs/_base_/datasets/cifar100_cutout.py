# CIFAR-100, prepared like CIFAR-10, by whose mean and deviation, rounded, the
# authors normalize it.
_base_ = './cifar10_cutout.py'

data_preprocessor = dict(
    num_classes=100,
    mean=[125.3, 123.0, 113.9],
    std=[63.0, 62.1, 66.7])

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='Cutout', shape=16, pad_val=(125, 123, 114), prob=0.5),
    dict(type='PackInputs')
]

train_dataloader = dict(
    dataset=dict(
        type='CIFAR100', data_root='data/cifar100', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(type='CIFAR100', data_root='data/cifar100'))
test_dataloader = val_dataloader
