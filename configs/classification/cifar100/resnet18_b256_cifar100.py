_base_ = [
    '../../_base_/models/resnet18_small-images.py',
    '../../_base_/datasets/cifar100_cutout.py',
    '../../_base_/schedules/ausam_paper.py', '../../_base_/cls_runtime.py'
]

# The target is 0.9, and that of the other classes 0.1 / 99.
model = dict(
    backbone=dict(zero_init_residual=False),
    head=dict(num_classes=100, loss=dict(label_smooth_val=0.1 * 100 / 99)))
