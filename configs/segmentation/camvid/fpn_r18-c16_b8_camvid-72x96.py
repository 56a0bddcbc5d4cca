_base_ = [
    '../../_base_/models/fpn_resnet18-c16.py',
    '../../_base_/datasets/camvid.py', '../../_base_/schedules/camvid.py',
    '../../_base_/seg_runtime.py'
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    decode_head=dict(num_classes=11))
