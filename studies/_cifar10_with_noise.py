"""What the studies of wrong labels on CIFAR-10 have in common."""

CONFIG = ('../configs/classification/cifar10/'
          'resnet18-c8_b64_cifar10-2000-noise40.py')


def wrong_labels(percent):
    """The same labels are wrong in all trainings."""
    return {'train_dataloader.dataset.ratio': percent / 100}


def wrapper(weight_decay, lr=0.1, batch_size=64, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(lr=lr, weight_decay=weight_decay), **options))
