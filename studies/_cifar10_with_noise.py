"""What the studies of wrong labels on CIFAR-10 have in common."""

from _digits_with_noise import lasting, wrapper, wrong_labels  # noqa: F401
from _overfitting_cifar10 import OPTIONS as _CIFAR

CONFIG = ('../configs/classification/cifar10/'
          'resnet18-c8_b64_cifar10-2000-noise40.py')

# The network of overfitting on maps of half the size, for which a training
# takes a minute, and its augmentation, at once for the batch.
OPTIONS = {
    'model.backbone.base_channels': 16,
    'model.head.in_channels': 128,
    'data_preprocessor': _CIFAR['data_preprocessor'],
    'train_dataloader.num_workers': 1,
    'train_dataloader.persistent_workers': True,
    'custom_hooks': _CIFAR['custom_hooks'],
    **lasting(40),
}
