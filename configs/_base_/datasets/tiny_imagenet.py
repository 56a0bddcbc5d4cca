# Tiny-ImageNet as the folders that tools/dataset_converters/tiny_imagenet.py
# writes.
_base_ = './cifar10_2000.py'

data_preprocessor = dict(
    num_classes=200, mean=[122.46, 114.26, 101.37], std=[70.63, 68.61, 71.93])

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, padding=8),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    # Described, without its size: these are CIFAR's.
    dict(type='Cutout', shape=16, pad_val=(101, 114, 122), prob=0.5),
    dict(type='PackInputs')
]

train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(data_root='data/tiny_imagenet', pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=2, dataset=dict(data_root='data/tiny_imagenet'))
test_dataloader = val_dataloader

val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator
