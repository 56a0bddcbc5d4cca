"""Fine-tuning on 2,000 images of CIFAR-10: which options suit each method?

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000; the weights:
tools/model_converters/efficientnet_lite0.py
"""

import _finetuning as _common

question = (
    'Which learning rate, weight decay and batch suit AdamW and SGD, '
    'and which rho suits SAM, AUSAM and SplitSAM? On a seed that '
    'finetuning_cifar10.py does not use; its settings come from here.')

config = ('../configs/classification/cifar10/'
          'efficientnet-lite0_ft-b32_cifar10-2000-64x64.py')
settings = _common.search()
seeds = (10, )

metric = 'accuracy/top1'
baseline = 'AdamW lr=0.001 wd=0.01'
comparisons = [('SAM rho=0.005', baseline)]
reading = (
    'One seed. AdamW wants the learning rate of the config; three times as '
    'much or as little is worse, and weight decay or half of the batch '
    'move it by less than half a point. SGD is far behind with the best of '
    'three learning rates. SAM is ahead of AdamW by a point and a half '
    'with its best rho, SplitSAM close behind AdamW, AUSAM (0.25, 0.75) a '
    'little more, and AUSAM (0.5) by three points. A smaller batch does '
    'not help SAM. A second training ran on the other core.')
