"""The paper's comparison on CIFAR-100.

The data: mmpretrain downloads CIFAR-100 into data/cifar100. --scale tiny:
tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

import _methods
import _tiny

question = (
    'CIFAR-100 by ResNet-18, WRN-28-10 and PyramidNet-110, 200 epochs: does '
    'AUSAM reach the accuracy of SAM, at 60 % of its cost and at the cost of '
    'SGD? What of the settings is known is said in '
    'configs/classification/cifar100/README.md.')

_folder = '../../configs/classification/cifar100/'
config = _folder + 'resnet18_b256_cifar100.py'
cases = {
    'ResNet-18': {},
    'WRN-28-10': dict(config=_folder + 'wrn28-10_b256_cifar100.py'),
    'PyramidNet-110': dict(
        config=_folder + 'pyramidnet110-a270_b256_cifar100.py'),
}
settings = _methods.methods()
seeds = (0, 1, 2)
num_samples = 50_000

metric = 'accuracy/top1'
comparisons = [('AUSAM (0.6)', 'SAM'), ('AUSAM (0.5)', 'SGD'),
               ('AUSAM (0.5)', 'uniform (0.5)')]
scales = dict(tiny=dict(
    cases=('ResNet-18', ), seeds=(0, ), options=_tiny.classifier(10)))
