_base_ = [
    '../../_base_/models/pose_efficientnet-lite0_in1k.py',
    '../../_base_/datasets/lspet.py', '../../_base_/schedules/lspet.py',
    '../../_base_/pose_runtime.py'
]

# Multiples of 32, for which timm's padding is that of the weights.
codec = dict(
    type='MSRAHeatmap', input_size=(64, 96), heatmap_size=(16, 24), sigma=1.0)

model = dict(
    head=dict(
        type='HeatmapHead',
        in_channels=112,
        out_channels=14,
        deconv_out_channels=(64, 64),
        deconv_kernel_sizes=(4, 4),
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=codec),
    test_cfg=dict(flip_test=False))

# People are neither rotated nor scaled: few of them are learned by heart.
load = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='PackPoseInputs')
]
load_augmented = [
    *load[:2],
    dict(type='RandomFlip', direction='horizontal'),
    load[2],
    dict(type='GenerateTarget', encoder=codec),
    load[3]
]

train_dataloader = dict(batch_size=16, dataset=dict(pipeline=load_augmented))
val_dataloader = dict(dataset=dict(pipeline=load))
test_dataloader = val_dataloader

custom_hooks = [dict(type='ChannelsLastHook')]

param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=12, T_max=11)
]
train_cfg = dict(max_epochs=12, val_interval=2)
auto_scale_lr = dict(base_batch_size=16)
