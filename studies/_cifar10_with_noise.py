"""What the studies of wrong labels on CIFAR-10 have in common."""

from _digits_with_noise import wrapper, wrong_labels  # noqa: F401

CONFIG = ('../configs/classification/cifar10/'
          'resnet18-c8_b64_cifar10-2000-noise40.py')
