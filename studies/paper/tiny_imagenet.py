"""The paper's comparison on Tiny-ImageNet.

The data: tools/dataset_converters/tiny_imagenet.py SOURCE; --scale tiny takes
20 of the classes, at 32x32.
"""

import _methods
import _tiny

question = (
    'Tiny-ImageNet by ResNet-18, ResNet-50 and MobileNetV1, 200 epochs: does '
    'AUSAM reach the accuracy of SAM, at 60 % of its cost and at the cost of '
    'SGD? What of the settings is known is said in '
    'configs/classification/tiny_imagenet/README.md.')

_folder = '../../configs/classification/tiny_imagenet/'
config = _folder + 'resnet18_b128_tiny-imagenet.py'
cases = {
    'ResNet-18': {},
    'ResNet-50': dict(config=_folder + 'resnet50_b128_tiny-imagenet.py'),
    'MobileNetV1': dict(config=_folder + 'mobilenet-v1_b128_tiny-imagenet.py'),
}
settings = _methods.methods()
seeds = (0, 1, 2)
num_samples = 100_000

metric = 'accuracy/top1'
comparisons = _methods.COMPARISONS
# The first 20 classes.
scales = _tiny.scale('ResNet-18', _tiny.classifier(
    20, 'data/tiny_imagenet', num_train=20 * 500, num_val=20 * 50))
