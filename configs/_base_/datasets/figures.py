# Generated articulated figures, by tools/dataset_converters/figures.py.
_base_ = './lspet.py'

input_size = (64, 64)

load_augmented = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(
        type='RandomBBoxTransform',
        shift_factor=0.05,
        scale_factor=(0.85, 1.15),
        rotate_factor=15),
    dict(type='TopdownAffine', input_size=input_size)
]
load = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=input_size),
    dict(type='PackPoseInputs')
]

metainfo = dict(from_file='{{ fileDirname }}/figures_metainfo.py')

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        data_root='data/figures',
        ann_file='annotations/figures_train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo))
val_dataloader = dict(
    dataset=dict(
        data_root='data/figures',
        ann_file='annotations/figures_val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        pipeline=load))
test_dataloader = val_dataloader

val_evaluator = dict(thr=0.1)
test_evaluator = val_evaluator
