_base_ = [
    '../../_base_/models/mobilenet-v1.py',
    '../../_base_/datasets/tiny_imagenet.py',
    '../../_base_/schedules/ausam_paper.py', '../../_base_/cls_runtime.py'
]

# The target is 0.9, and that of the other classes 0.1 / 199.
model = dict(
    head=dict(num_classes=200, loss=dict(label_smooth_val=0.1 * 200 / 199)))

auto_scale_lr = dict(base_batch_size=128)
