"""What the studies of quantized digits have in common."""

from _digits_with_noise import lasting  # noqa: F401

CONFIG = ('../configs/quantization/digits/'
          'resnet18-c16-s2-w4a4_b64_digits-noise40-8x8.py')


def float_model(setting, seed='{seed}', study='label_noise_digits', epoch=40):
    """The model that a setting of another study has trained."""
    return dict(load_from=f'work_dirs/studies/{study}/40-wrong-labels-'
                          f'{setting}-seed-{seed}/epoch_{epoch}.pth')


def wrapper(lr=0.01, weight_decay=5e-3, batch_size=32, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(lr=lr, weight_decay=weight_decay), **options))
