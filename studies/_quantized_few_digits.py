"""What the studies of few quantized digits have in common."""

import _overfitting_digits as _digits

CONFIG = ('../configs/quantization/digits/'
          'resnet18-c16-s2-w4a4_b64_digits-noise40-8x8.py')
OPTIONS = {
    **_digits.OPTIONS, **_digits.images(72),
    'train_cfg.max_epochs': 100,
    'param_scheduler.T_max': 100,
}


def wrapper(float_model, lr, weight_decay, batch_size=16, **options):
    """A setting that trains on from a run of another study."""
    return dict(
        _digits.wrapper(weight_decay, lr, batch_size, **options),
        load_from=f'work_dirs/studies/{float_model}/epoch_200.pth')
