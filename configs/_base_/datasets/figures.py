# Generated articulated figures, written by
# tools/dataset_converters/figures.py. A model's file sets the pipelines, which
# end with the targets of its codec.
default_scope = 'mmpose'

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
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root='data/figures',
        ann_file='annotations/figures_train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo))
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root='data/figures',
        ann_file='annotations/figures_val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=load))
test_dataloader = val_dataloader

val_evaluator = dict(type='PCKAccuracy', thr=0.1)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
