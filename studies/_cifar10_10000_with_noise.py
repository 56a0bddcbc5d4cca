"""What the studies of wrong labels on 10,000 images have in common."""

from _digits_with_noise import wrapper  # noqa: F401

CONFIG = ('../configs/classification/cifar10/'
          'resnet18-c16_b128_cifar10-10000-noise40.py')
