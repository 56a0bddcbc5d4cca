# CIFAR-100 as in cifar100_cutout.py, but the batch is augmented at once, on
# the model's device: the loader packs the images only.
_base_ = './cifar100_cutout.py'

data_preprocessor = dict(
    _delete_=True,
    type='BatchAugmentDataPreprocessor',
    preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=100,
        mean=[125.3, 123.0, 113.9],
        std=[63.0, 62.1, 66.7],
        to_rgb=False),
    transforms=[
        dict(type='BatchRandomCrop', crop_size=32, padding=4),
        dict(type='BatchRandomFlip', prob=0.5),
        dict(type='BatchCutout', shape=16, pad_val=(125, 123, 114), prob=0.5)
    ])

train_pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    num_workers=1, dataset=dict(pipeline=train_pipeline))
