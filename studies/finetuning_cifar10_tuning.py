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
