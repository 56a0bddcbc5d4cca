"""Smaller forms of the tables: few images, epochs and channels."""


def scale(case, options, **changed):
    """The scale ``tiny``: one network, one seed."""
    return dict(tiny=dict(
        cases=(case, ), seeds=(0, ), options=options, **changed))


def schedule(epochs):
    """Options of a training that is shorter."""
    return {'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': 1,
            'param_scheduler.T_max': epochs}


def classifier(num_classes, data_root='data/cifar10_2000', model='model',
               num_train=None, num_val=None):
    """Options of a ResNet-18 that learns images of 32x32.

    They are files here, of which the first ones are used, class by class.
    """
    read = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32)]
    augment = [
        dict(type='RandomCrop', crop_size=32, padding=4),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='PackInputs')]

    def data(prefix, pipeline, indices):
        return dict(num_workers=0, dataset=dict(
            _delete_=True, type='CustomDataset', data_root=data_root,
            data_prefix=prefix, with_label=True, pipeline=pipeline,
            indices=indices))

    return {
        'data_preprocessor': dict(num_classes=num_classes, to_rgb=True),
        f'{model}.backbone.base_channels': 8,
        f'{model}.backbone.strides': (2, 2, 2, 1),
        f'{model}.head.in_channels': 64,
        f'{model}.head.num_classes': num_classes,
        'train_dataloader': data('train', read + augment, num_train),
        'val_dataloader': data('val', read + augment[-1:], num_val),
        **schedule(4)}
