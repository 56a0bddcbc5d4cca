"""A classifier from ImageNet that learns 2,000 images of CIFAR-10.

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000; the weights:
tools/model_converters/efficientnet_lite0.py
"""

import _finetuning as _common

question = (
    'EfficientNet-Lite0 from ImageNet is fine-tuned on 2,000 images of '
    'CIFAR-10 at 64x64: does a method at the cost of AdamW gain what SAM '
    'gains? The settings come from finetuning_cifar10_tuning.py.')

config = ('../configs/classification/cifar10/'
          'efficientnet-lite0_ft-b32_cifar10-2000-64x64.py')
settings = _common.compared(
    dict(lr=1e-3, batch_size=16), SAM=0.005, AUSAM=0.005, SplitSAM=0.005)
seeds = (0, 1, 2)

metric = 'accuracy/top1'
baseline = 'AdamW, tuned'
comparisons = _common.COMPARISONS
reading = (
    'No ground: AdamW still gains by more epochs. SAM is where AdamW is, '
    'AUSAM (0.25, 0.75) and SplitSAM are behind in the mean, within the '
    'interval, and AUSAM (0.5), which sees half of the images, by more. '
    'AdamW for twice as long, which costs what SAM costs, is nearly three '
    'points ahead, outside the interval. High scores are no better than '
    'uniform samples outside the interval. The warm-up of one epoch is a '
    'fifth of the training, so that AUSAM costs a fifth more than AdamW. '
    'AdamW has its own batch, half of that of the others, which is no '
    'better for SAM (one seed). A second training ran on the other core.')
