auto_scale_lr = dict(base_batch_size=64)
custom_imports = dict(
    allow_failed_imports=False, imports=[
        'ausam_mm',
    ])
data_preprocessor = dict(
    mean=[
        127.5,
        127.5,
        127.5,
    ], num_classes=10, std=[
        127.5,
        127.5,
        127.5,
    ])
default_hooks = dict(
    checkpoint=dict(interval=2, max_keep_ckpts=-1, type='CheckpointHook'),
    logger=dict(interval=1, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(enable=False, type='VisualizationHook'))
default_scope = 'mmpretrain'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
load_from = None
log_level = 'INFO'
log_processor = dict(window_size=1)
model = dict(
    backbone=dict(
        base_channels=16,
        depth=18,
        dilations=(
            1,
            1,
        ),
        num_stages=2,
        out_indices=(1, ),
        strides=(
            1,
            2,
        ),
        style='pytorch',
        type='ResNet_CIFAR'),
    head=dict(
        in_channels=32,
        loss=dict(type='CrossEntropyLoss'),
        num_classes=10,
        type='LinearClsHead'),
    neck=dict(type='GlobalAveragePooling'),
    type='ImageClassifier')
optim_wrapper = dict(
    alpha=0.5,
    optimizer=dict(lr=0.1, momentum=0.9, type='SGD', weight_decay=0.0005),
    ramp_epochs=6,
    rho=0.3,
    type='AUSAM')
param_scheduler = dict(
    T_max=40,
    convert_to_iter_based=True,
    eta_min=0.0,
    type='CosineAnnealingLR')
randomness = dict(seed=10)
resume = False
test_cfg = dict()
test_dataloader = dict(
    batch_size=360,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_prefix='val',
        data_root='data/digits',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset',
        with_label=True),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(topk=(1, ), type='Accuracy')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(scale=16, type='Resize'),
    dict(type='PackInputs'),
]
train_cfg = dict(
    max_epochs=40, type='ExactResumeEpochBasedTrainLoop', val_interval=2)
train_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        dataset=dict(
            data_prefix='train',
            data_root='data/digits',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='PackInputs'),
            ],
            type='CustomDataset',
            with_label=True),
        kind='uniform',
        ratio=0.4,
        seed=0,
        type='LabelNoise'),
    num_workers=0,
    sampler=dict(shuffle=True, type='DefaultSampler'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(scale=16, type='Resize'),
    dict(crop_size=16, padding=2, type='RandomCrop'),
    dict(type='PackInputs'),
]
val_cfg = dict()
val_dataloader = dict(
    batch_size=360,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        data_prefix='val',
        data_root='data/digits',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset',
        with_label=True),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(topk=(1, ), type='Accuracy')
vis_backends = [
    dict(type='LocalVisBackend'),
]
visualizer = dict(
    type='UniversalVisualizer', vis_backends=[
        dict(type='LocalVisBackend'),
    ])
