# Leeds Sports Pose Extended, written by tools/dataset_converters/lspet.py. A
# model's file sets the training pipeline, which ends with the targets of its
# codec.
default_scope = 'mmpose'

input_size = (96, 128)  # width, height

load_augmented = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomBBoxTransform', shift_prob=0.),
    dict(type='TopdownAffine', input_size=input_size)
]
load = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=input_size),
    dict(type='PackPoseInputs')
]

metainfo = dict(from_file='{{ fileDirname }}/lspet_metainfo.py')

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root='data/lspet',
        ann_file='annotations/lspet_train.json',
        data_prefix=dict(img='images/'),
        metainfo=metainfo))
val_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root='data/lspet',
        ann_file='annotations/lspet_val.json',
        data_prefix=dict(img='images/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=load))
test_dataloader = val_dataloader

val_evaluator = dict(type='PCKAccuracy', thr=0.2)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
