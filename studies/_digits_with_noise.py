"""What the studies of wrong labels on digits have in common.

A small network without label smoothing and without augmentation, 40 epochs: it
learns wrong labels by heart. Validation labels are clean.
"""

from pathlib import Path

from mmengine.config import Config

CONFIG = '../configs/classification/digits/resnet18-c16_b64_digits.py'
_PIPELINE = [
    dict(type='LoadImageFromFile'),  # 8x8
    dict(type='PackInputs')
]
OPTIONS = {
    # Two stages of two blocks, 16 and 32 channels.
    'model.backbone.num_stages': 2,
    'model.backbone.strides': (1, 2),
    'model.backbone.dilations': (1, 1),
    'model.backbone.out_indices': (1, ),
    'model.head.in_channels': 32,
    'model.head.loss': dict(type='CrossEntropyLoss', _delete_=True),
    'val_dataloader.dataset.pipeline': _PIPELINE,
    'test_dataloader.dataset.pipeline': _PIPELINE,
    'train_cfg.max_epochs': 40,
    'train_cfg.val_interval': 2,
    'param_scheduler.T_max': 40,
}
_DIGITS = dict(
    Config.fromfile(
        Path(__file__).parent / CONFIG,
        import_custom_modules=False).train_dataloader.dataset.to_dict(),
    pipeline=_PIPELINE)


def wrong_labels(percent):
    """The same labels are wrong in all trainings."""
    return dict(train_dataloader=dict(dataset=dict(
        _delete_=True, type='LabelNoise', dataset=_DIGITS,
        ratio=percent / 100, kind='uniform', seed=0)))


def wrapper(weight_decay, lr=0.1, batch_size=64, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(lr=lr, weight_decay=weight_decay), **options))
