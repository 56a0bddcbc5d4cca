"""The paper's comparison on CIFAR-10.

The data: mmpretrain downloads CIFAR-10 into data/cifar10. --scale tiny:
tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

import _cifar
import _methods
import _tiny

question = _cifar.QUESTION.format('CIFAR-10')

cases = _cifar.configs('cifar10')
config = cases['ResNet-18']['config']
settings = _methods.methods()
seeds = (0, 1, 2)
num_samples = 50_000

metric = 'accuracy/top1'
comparisons = _methods.COMPARISONS
scales = _tiny.scale('ResNet-18', _tiny.classifier(10))
