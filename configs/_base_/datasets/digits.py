# scikit-learn's handwritten digits, written by
# tools/dataset_converters/digits.py.
_base_ = './cifar10_2000.py'

data_preprocessor = dict(
    _delete_=True, num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16),
    dict(type='RandomCrop', crop_size=16, padding=2),
    dict(type='PackInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16),
    dict(type='PackInputs')
]

train_dataloader = dict(
    batch_size=64,
    dataset=dict(data_root='data/digits', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=360,
    dataset=dict(data_root='data/digits', pipeline=test_pipeline))
test_dataloader = val_dataloader
