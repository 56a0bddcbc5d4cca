"""What the studies of overfitting on few digits have in common."""

CONFIG = ('../configs/classification/digits/'
          'resnet18-c16-s2_b64_digits-noise40-8x8.py')

OPTIONS = {
    'train_cfg.max_epochs': 200,
    'train_cfg.val_interval': 10,
    'param_scheduler.T_max': 200,
    'default_hooks.checkpoint.interval': 50,
}


def images(number):
    """As many of the 1,442, every n-th, since they are sorted by class."""
    return {
        'train_dataloader.dataset.ratio': 0.,
        'train_dataloader.dataset.dataset.indices':
            list(range(0, 1440, 1440 // number))}


def wrapper(weight_decay, lr=0.1, batch_size=16, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(lr=lr, weight_decay=weight_decay), **options))
