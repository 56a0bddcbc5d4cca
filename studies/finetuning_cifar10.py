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
