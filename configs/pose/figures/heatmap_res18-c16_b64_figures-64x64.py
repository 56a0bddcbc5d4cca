_base_ = [
    '../../_base_/models/pose_resnet18-c16.py',
    '../../_base_/datasets/figures.py', '../../_base_/schedules/figures.py',
    '../../_base_/pose_runtime.py'
]

codec = dict(
    type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1)

model = dict(
    head=dict(
        type='HeatmapHead',
        in_channels=128,
        out_channels=14,
        deconv_out_channels=(64, 64, 64),
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=codec),
    test_cfg=dict(flip_test=False))

train_dataloader = dict(
    dataset=dict(
        pipeline=_base_.load_augmented + [
            dict(type='GenerateTarget', encoder=codec),
            dict(type='PackPoseInputs')
        ]))
