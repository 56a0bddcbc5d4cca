"""Digits with 40 % wrong labels, with 4- and 2-bit weights.

The float model is trained by

    python tools/study.py studies/label_noise_digits.py \
        --only 'SGD, tuned' --cases '40 % wrong labels' --seeds 0
"""

question = (
    'A float model, which SGD trained with its own best options on digits '
    'with 40 % wrong labels, is quantized and trained on with the same wrong '
    'labels. Does a method at the cost of SGD gain what SAM gains?')

config = ('../configs/quantization/digits/'
          'resnet18-c16-s2-w4a4_b64_digits-8x8-noise40.py')
options = {
    'load_from': 'work_dirs/studies/label_noise_digits/'
                 '40-wrong-labels-SGD-tuned-seed-0/epoch_40.pth',
}
