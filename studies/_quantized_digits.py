"""What the studies of quantized digits have in common.

The float model, which SGD trained with its own best options:

    python tools/study.py studies/label_noise_digits.py \
        --only 'SGD, tuned' --cases '40 % wrong labels' --seeds 0
"""

CONFIG = ('../configs/quantization/digits/'
          'resnet18-c16-s2-w4a4_b64_digits-noise40-8x8.py')
FLOAT = ('work_dirs/studies/label_noise_digits/'
         '40-wrong-labels-SGD-tuned-seed-0/epoch_40.pth')
OPTIONS = dict(load_from=FLOAT)


def wrapper(lr=0.01, weight_decay=5e-3, batch_size=32, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(lr=lr, weight_decay=weight_decay), **options))
