_base_ = [
    '../../_base_/models/pyramidnet110-a270_cifar.py',
    '../../_base_/datasets/cifar10_cutout.py',
    '../../_base_/schedules/ausam_paper.py', '../../_base_/cls_runtime.py'
]

# The target is 0.9, and that of the other classes 0.1 / 9.
model = dict(
    head=dict(loss=dict(label_smooth_val=0.1 * 10 / 9)))
