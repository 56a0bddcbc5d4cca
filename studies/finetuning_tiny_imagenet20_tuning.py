"""Fine-tuning on 20 classes of Tiny-ImageNet: which options suit each method?

The data: docs/datasets.md#tiny-imagenet; the weights:
tools/model_converters/efficientnet_lite0.py
"""

import _finetuning as _common

question = (
    'Which learning rate, weight decay and batch suit AdamW and SGD, '
    'and which rho suits SAM, AUSAM and SplitSAM? On a seed that '
    'finetuning_tiny_imagenet20.py does not use; its settings come from here.')

config = ('../configs/classification/tiny_imagenet/'
          'efficientnet-lite0_ft-b32_tiny-imagenet20-2000-64x64.py')
settings = _common.search()
seeds = (10, )

metric = 'accuracy/top1'
baseline = 'AdamW lr=0.001 wd=0.01'
comparisons = [('SAM rho=0.005', baseline)]
reading = (
    'One seed. AdamW wants the learning rate of the config and the largest '
    'weight decay; three times as much or as little of the former and '
    'another batch are no better. SAM is ahead of it by a point with its '
    'best rho, AUSAM (0.25, 0.75) a point behind, SplitSAM three. A point '
    'is ten of the 1,000 images. SGD, which is far behind on CIFAR-10, and '
    'a batch of 64 were not run. The images were the first in the order of '
    'an archive, before the converter took them by name: another 100 of '
    'each class than it writes now. A second training ran on the other '
    'core.')
