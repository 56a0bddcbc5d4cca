"""A classifier from ImageNet that learns 20 classes of Tiny-ImageNet.

The data: docs/datasets.md#tiny-imagenet; the weights:
tools/model_converters/efficientnet_lite0.py
"""

import _finetuning as _common

question = (
    'EfficientNet-Lite0 from ImageNet is fine-tuned on 2,000 images of 20 '
    'classes of Tiny-ImageNet: does a method at the cost of AdamW gain what '
    'SAM gains? The settings come from finetuning_tiny_imagenet20_tuning.py.')

config = ('../configs/classification/tiny_imagenet/'
          'efficientnet-lite0_ft-b32_tiny-imagenet20-2000-64x64.py')
settings = _common.compared(
    dict(lr=1e-3, weight_decay=0.5), SAM=0.005, AUSAM=0.005, SplitSAM=0.005)
seeds = (0, 1, 2)

metric = 'accuracy/top1'
baseline = 'AdamW, tuned'
comparisons = _common.COMPARISONS
reading = (
    'No ground: SAM is where AdamW is, AUSAM (0.25, 0.75) and SplitSAM are '
    'behind in the mean, within the interval, and AUSAM (0.5), which sees '
    'half of the images, outside of it. AdamW for twice as long, which '
    'costs what SAM costs, is a point ahead in the mean, within the '
    'interval. High scores are no better than uniform samples. The warm-up '
    'of one epoch is a fifth of the training, so that AUSAM costs a fifth '
    'more than AdamW. The classes are among those that the weights were '
    'trained on, in larger images. All have the weight decay that suits '
    'AdamW; the rho were searched with that of the config. A second '
    'training ran on the other core.')
