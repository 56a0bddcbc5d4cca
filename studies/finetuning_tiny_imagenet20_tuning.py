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
    'weight decay; three times as much or as little of the former and half '
    'or twice the batch are worse. With the weight decay of the config SAM '
    'is ahead of AdamW by two points with its best rho, which leaves half '
    'a point over AdamW with its own; three times that rho is a point '
    'behind it, ten times as good, less worse. AUSAM (0.25, 0.75) and '
    'SplitSAM are behind AdamW with each rho. A point is ten of the 1,000 '
    'images. SGD, which is far behind on CIFAR-10, was not run. A second '
    'training ran on the other core.')
