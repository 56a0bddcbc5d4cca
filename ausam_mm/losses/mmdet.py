"""Rules for mmdet's heads, by name: mmdet is not imported.

What divides the losses of the others is not known from the boxes: predictions,
proposals, ranks or chance decide.
"""

from .detection import register_detection_head
from .divisors import MEANS, TARGETS
from .rules import refuse_per_sample_loss

refuse_per_sample_loss(
    'no rule tells what an image adds to it, as for RetinaHead, SSDHead, '
    'FCOSHead, ATSSHead and DETRHead',
    'mmdet.BaseDenseHead', 'mmdet.BaseMaskHead', 'mmdet.MaskFormerHead')
refuse_per_sample_loss(
    'it draws from the proposals of the batch', 'mmdet.BaseRoIHead')
# The positives, of each image at least 1, and in DETR the other queries.
register_detection_head(
    'mmdet.RetinaHead', 'mmdet.RetinaSepBNHead', 'mmdet.SSDHead',
    'mmdet.DETRHead', numbers_from=TARGETS)
# The positives, and the sum of their centerness.
register_detection_head('mmdet.FCOSHead', 'mmdet.ATSSHead',
                        numbers_from=MEANS)
