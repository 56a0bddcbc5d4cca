_base_ = [
    '../../_base_/models/pose_resnet18-c16.py',
    '../../_base_/datasets/figures.py', '../../_base_/schedules/figures.py',
    '../../_base_/pose_runtime.py'
]

codec = dict(
    type='SimCCLabel', input_size=(64, 64), sigma=2.0, simcc_split_ratio=2.0)

model = dict(
    head=dict(
        type='SimCCHead',
        in_channels=128,
        out_channels=14,
        input_size=codec['input_size'],
        in_featuremap_size=(2, 2),
        simcc_split_ratio=codec['simcc_split_ratio'],
        deconv_out_channels=(64, 64, 64),
        deconv_num_groups=(1, 1, 1),
        loss=dict(type='KLDiscretLoss', use_target_weight=True),
        decoder=codec),
    test_cfg=dict(flip_test=False))

train_dataloader = dict(
    dataset=dict(
        pipeline=_base_.load_augmented + [
            dict(type='GenerateTarget', encoder=codec),
            dict(type='PackPoseInputs')
        ]))
