_base_ = [
    '../../_base_/models/fcos_resnet18-c16.py',
    '../../_base_/datasets/coco_people.py',
    '../../_base_/schedules/coco_people.py', '../../_base_/det_runtime.py'
]
