"""What the studies of overfitting on CIFAR-10 have in common."""

CONFIG = ('../configs/classification/cifar10/'
          'resnet18-c16_b128_cifar10-2000.py')

# All in one place, also what the config has already. The batch is augmented
# at once.
OPTIONS = {
    'model.backbone.strides': (1, 2, 2, 2),
    'model.head.loss': dict(
        type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    'data_preprocessor': dict(
        _delete_=True, type='BatchAugmentDataPreprocessor',
        preprocessor=dict(
            type='ClsDataPreprocessor', num_classes=10, to_rgb=True,
            mean=[125.307, 122.961, 113.8575],
            std=[51.5865, 50.847, 51.255]),
        transforms=[
            dict(type='BatchRandomCrop', crop_size=32, padding=4),
            dict(type='BatchRandomFlip', prob=0.5)]),
    'train_dataloader.dataset.pipeline': [
        dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    'train_dataloader.num_workers': 1,
    'train_dataloader.persistent_workers': True,
    # Twice as fast where the CPU knows bfloat16.
    'custom_hooks': [dict(type='ChannelsLastHook'), dict(type='CPUAmpHook')],
    'train_cfg.max_epochs': 80,
    'param_scheduler.T_max': 80,
}


def wrapper(weight_decay=1e-3, lr=0.1, batch_size=128, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(lr=lr, weight_decay=weight_decay), **options))
