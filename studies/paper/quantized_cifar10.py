"""The paper's comparison of quantized networks on CIFAR-10, by LSQ.

The data: mmpretrain downloads CIFAR-10 into data/cifar10. The float models
are trained before: tools/train.py
configs/classification/cifar10/resnet18_b256_cifar10.py, and
mobilenet-v2_b256_cifar10.py beside it. --scale tiny begins without one:
tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

import _methods
import _tiny

question = (
    'ResNet-18 and MobileNetV2 with weights of 4 and 2 bits and activations '
    'of 4, fine-tuned on CIFAR-10: does AUSAM reach the accuracy of SAM, at '
    '60 % of its cost and at the cost of SGD? What of the settings is known '
    'is said in configs/quantization/cifar10/README.md.')

_folder = '../../configs/quantization/cifar10/'
config = _folder + 'resnet18-w4a4_b256_cifar10.py'
cases = {
    'ResNet-18, W4A4': {},
    'ResNet-18, W2A4': dict(config=_folder + 'resnet18-w2a4_b256_cifar10.py'),
    'MobileNetV2, W4A4': dict(
        config=_folder + 'mobilenet-v2-w4a4_b256_cifar10.py'),
    'MobileNetV2, W2A4': dict(
        config=_folder + 'mobilenet-v2-w2a4_b256_cifar10.py'),
}
# The paper's share of a training of 100 epochs.
settings = _methods.methods(ramp_epochs=15)
seeds = (0, 1, 2)
num_samples = 50_000

metric = 'accuracy/top1'
comparisons = _methods.COMPARISONS
scales = _tiny.scale('ResNet-18, W4A4', {
    **_tiny.classifier(10, model='model.architecture'), 'load_from': None})
