_base_ = [
    '../../_base_/models/resnet18-c16_cifar.py',
    '../../_base_/datasets/digits.py', '../../_base_/schedules/digits.py',
    '../../_base_/cls_runtime.py'
]
