"""Smaller forms of the tables: few images, epochs and channels."""


def scale(case, options, **changed):
    """The scale ``tiny``: one network, one seed."""
    return dict(tiny=dict(
        cases=(case, ), seeds=(0, ), options=options, **changed))


def schedule(epochs):
    """Options of a training that is shorter."""
    return {'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': 1,
            'param_scheduler.T_max': epochs}


def classifier(num_classes, size=32, data_root='data/cifar10_2000',
               model='model'):
    """Options of a ResNet-18 that learns a part of the images.

    They are files here, which are read before anything else.
    """
    read = [dict(type='LoadImageFromFile')]
    augment = [
        dict(type='RandomCrop', crop_size=size, padding=size // 8),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='PackInputs')]

    def data(prefix, pipeline):
        return dict(num_workers=0, dataset=dict(
            _delete_=True, type='CustomDataset', data_root=data_root,
            data_prefix=prefix, with_label=True, pipeline=pipeline))

    return {
        'data_preprocessor': dict(num_classes=num_classes, to_rgb=True),
        f'{model}.backbone.base_channels': 8,
        f'{model}.backbone.strides': (2, 2, 2, 1),
        f'{model}.head.in_channels': 64,
        f'{model}.head.num_classes': num_classes,
        'train_dataloader': data('train', read + augment),
        'val_dataloader': data('val', read + augment[-1:]),
        **schedule(4)}
