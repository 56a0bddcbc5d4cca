"""The paper's comparison on CIFAR-100.

The data: mmpretrain downloads CIFAR-100 into data/cifar100. --scale tiny:
tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

import _cifar
import _methods
import _tiny

question = _cifar.QUESTION.format('CIFAR-100')

cases = _cifar.configs('cifar100')
config = cases['ResNet-18']['config']
settings = _methods.methods()
seeds = (0, 1, 2)
num_samples = 50_000

metric = 'accuracy/top1'
comparisons = _methods.COMPARISONS
scales = _tiny.scale('ResNet-18', _tiny.classifier(10))
