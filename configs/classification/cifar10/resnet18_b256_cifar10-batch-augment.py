# resnet18_b256_cifar10.py, with augmentation on the model's device.
_base_ = [
    '../../_base_/models/resnet18_small-images.py',
    '../../_base_/datasets/cifar10_cutout_batch-augment.py',
    '../../_base_/schedules/ausam_paper.py', '../../_base_/cls_runtime.py'
]

model = dict(
    backbone=dict(zero_init_residual=False),
    head=dict(loss=dict(label_smooth_val=0.1 * 10 / 9)))
