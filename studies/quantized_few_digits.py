"""Few handwritten digits, weights quantized to 4 and to 2 bits.

The float models:

    python tools/study.py studies/overfitting_digits.py --cases '72 images' \
        --only 'SGD, tuned' SAM 'AUSAM (0.5)' 'uniform (0.5)' SplitSAM --again
"""

from pathlib import Path

import _overfitting_digits as _float
import _quantized_few_digits as _digits
from mmengine.config import Config

question = (
    'A network is trained on 72 clean images, quantized, and trained on with '
    'the same images, both times by the same method: activations to 4 bits, '
    'weights to 4 or to 2. Does a method at the cost of SGD gain what SAM '
    'gains? The settings come from quantized_few_digits_tuning.py, on another '
    'seed and with 4 bits.')

config = _digits.CONFIG
options = _digits.OPTIONS
cases = {'W4A4': {}, 'W2A4': {'model.w_bits': 2}}


def _from(model):
    return f'overfitting_digits/72-images-{model}-seed-{{seed}}'


_float_model = Config.fromfile(
    Path(__file__).parent / _float.CONFIG,
    import_custom_modules=False).model.to_dict()
_ausam = dict(type='AUSAM', rho=0.3, alpha=0.5, ramp_epochs=15)
settings = {
    'SGD, tuned': _digits.wrapper(_from('SGD-tuned'), 0.003, 2e-2, 32),
    'SAM': _digits.wrapper(_from('SAM'), 0.01, 5e-3, type='SAM', rho=0.1),
    'AUSAM (0.5)': _digits.wrapper(_from('AUSAM-0-5'), 0.01, 5e-3, **_ausam),
    # The control: are the scores good for anything?
    'uniform (0.5)': _digits.wrapper(
        _from('uniform-0-5'), 0.01, 5e-3, scores='uniform', **_ausam),
    'SplitSAM': _digits.wrapper(
        _from('SplitSAM'), 0.003, 5e-3, type='SplitSAM', rho=0.3),
    # What the float model gains by as much training.
    'float model, trained on': {
        **_digits.wrapper(_from('SGD-tuned'), 0.003, 2e-2, 32),
        'config': _float.CONFIG,
        'model': dict(_float_model, _delete_=True)},
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [('SAM', 'SGD, tuned'), ('AUSAM (0.5)', 'SGD, tuned'),
               ('AUSAM (0.5)', 'uniform (0.5)'), ('SplitSAM', 'SGD, tuned')]
reading = (
    'SAM, AUSAM, uniform samples and SplitSAM are ahead of SGD in the mean '
    'with 4 and with 2 bits for weights, by about a point and a half at '
    'most, and all intervals of five seeds contain 0. Two bits lose '
    'nothing against four here. A float model that is trained on stays '
    'where it is. A second training ran on the other core.')
