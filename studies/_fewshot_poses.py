"""What the studies of few poses have in common: wrappers and cases.

A heatmap head on EfficientNet-Lite0 from ImageNet, people of 96x64 pixels, 12
epochs of Adam, flips as the only augmentation. Validation keypoints are clean.
"""

from pathlib import Path

from mmengine.config import Config

CONFIG = ('../configs/pose/lspet/'
          'heatmap_efficientnet-lite0_ft-b16_lspet-400-96x64.py')
_PEOPLE = Config.fromfile(
    Path(__file__).parent / CONFIG,
    import_custom_modules=False).train_dataloader.dataset.to_dict()
CLEAN = '400 images'
WRONG = '400 images, 20 % wrong keypoints'
MORE = '1,600 images'
CASES = {
    # Left and right exchanged, of the same people in all trainings.
    WRONG: dict(train_dataloader=dict(dataset=dict(
        _delete_=True, type='KeypointNoise', dataset=_PEOPLE, ratio=0.2,
        kind='swap', seed=0))),
    CLEAN: {},
    # As many steps as 400 images in 12 epochs.
    MORE: {
        'train_dataloader.dataset.indices': 1600,
        'train_cfg.max_epochs': 3,
        'train_cfg.val_interval': 1,
        'param_scheduler.1.end': 3,
        'param_scheduler.1.T_max': 2
    },
}


def wrapper(lr=1e-3, weight_decay=0., optimizer='Adam', **options):
    """A setting: of Adam, or of the wrapper whose options are given."""
    momentum = dict(momentum=0.9) if optimizer == 'SGD' else {}
    return dict(optim_wrapper=dict(
        optimizer=dict(_delete_=True, type=optimizer, lr=lr,
                       weight_decay=weight_decay, **momentum), **options))
