"""4-bit digits with 40 % wrong labels, by tools/demo.py."""

import _quantized_digits as _digits
import quantized_digits as _study

question = ('The models of demo_digits.py are quantized to 4 bits and trained '
            'on by the same methods, with the same wrong labels: what does '
            'each method gain, and what does it cost?')
config = _digits.CONFIG
settings = {
    name: dict(_study.settings[name],
               load_from=f'work_dirs/demo/demo_digits/{folder}-seed-0/'
                         'epoch_40.pth')
    for name, folder in (('SGD, tuned', 'SGD-tuned'), ('SAM', 'SAM'),
                         ('AUSAM, low (0.5), batch=64', 'AUSAM-low-0-5'))}
seeds = (0, )
metric = _study.metric
comparisons = [('AUSAM, low (0.5), batch=64', 'SGD, tuned')]
