"""What the studies of fine-tuning on CIFAR-10 have in common."""

CONFIG = ('../configs/classification/cifar10/'
          'efficientnet-lite0_ft-b32_cifar10-2000-64x64.py')


def wrapper(lr=1e-3, weight_decay=0.01, optimizer='AdamW', **options):
    """A setting: of AdamW, or of the wrapper whose options are given."""
    momentum = dict(momentum=0.9) if optimizer == 'SGD' else {}
    return dict(optim_wrapper=dict(
        optimizer=dict(_delete_=True, type=optimizer, lr=lr,
                       weight_decay=weight_decay, **momentum), **options))
