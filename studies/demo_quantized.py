"""4-bit digits with 40 % wrong labels, by tools/demo.py."""

import _quantized_digits as _digits
import quantized_digits as _study

question = ('The SGD-trained model of demo_digits.py is quantized to 4 bits '
            'and trained on, with the same wrong labels: what does each '
            'method gain, and what does it cost?')
config = _digits.CONFIG
options = dict(load_from='work_dirs/demo/demo_digits/SGD-tuned-seed-0/'
                         'epoch_40.pth')
settings = {name: _study.settings[name] for name in (
    'SGD, tuned', 'SAM', 'AUSAM, low (0.5)')}
seeds = (0, )
metric = _study.metric
comparisons = [('AUSAM, low (0.5)', 'SGD, tuned')]
