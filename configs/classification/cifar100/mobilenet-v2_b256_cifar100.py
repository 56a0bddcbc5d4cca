_base_ = [
    '../../_base_/models/mobilenet-v2_small-images.py',
    '../../_base_/datasets/cifar100_cutout.py',
    '../../_base_/schedules/ausam_paper.py', '../../_base_/cls_runtime.py'
]

model = dict(head=dict(num_classes=100))
