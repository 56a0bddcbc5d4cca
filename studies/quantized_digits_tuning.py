"""4-bit digits with 40 % wrong labels: which options suit each method?

The float models:

    python tools/study.py studies/label_noise_digits.py \
        --only 'SGD, tuned' --cases '40 % wrong labels' --seeds 0 --again
    python tools/study.py studies/label_noise_digits_tuning.py --only \
        'SGD wd=0.005 lr=0.3 batch=32' 'SAM wd=0.005 lr=0.1 batch=64 rho=0.3' \
        'AUSAM, low (0.5) wd=0.005 lr=0.1 batch=64 rho=0.3' \
        'SGD wd=0.005 lr=0.3 batch=64 epochs=10' --again
"""

import itertools

import _quantized_digits as _digits

question = (
    'Which learning rate, weight decay and batch suit SGD in quantizing a '
    'float model with the wrong labels that it was trained with, and which '
    'rho suits SAM and AUSAM? On seeds that quantized_digits.py does not use; '
    'its settings come from here.')

config = _digits.CONFIG
options = _digits.float_model('SGD-tuned', 0)

_ausam = dict(type='AUSAM', alpha=0.5, ramp_epochs=3)
settings = {}
for _lr, _decay, _batch in (
        (0.001, 5e-3, 32), (0.003, 5e-3, 32), (0.01, 5e-3, 32),
        (0.03, 5e-3, 32), (0.1, 5e-3, 32), (0.03, 5e-4, 32), (0.03, 2e-2, 32),
        (0.03, 5e-3, 64), (0.03, 5e-3, 128)):
    settings[f'SGD lr={_lr} wd={_decay:g} batch={_batch}'] = _digits.wrapper(
        _lr, _decay, _batch)
for _name, _method in {
        'SAM': dict(type='SAM'),
        'AUSAM (0.5)': _ausam,
        'AUSAM, low (0.5)': dict(_ausam, favor='low'),
        'uniform (0.5)': dict(_ausam, scores='uniform'),
        'SplitSAM': dict(type='SplitSAM')}.items():
    for _lr, _batch in ((0.01, 32), (0.03, 32), (0.1, 64)):
        for _rho in (0.1, 0.3, 0.5):
            settings[f'{_name} lr={_lr} wd=0.005 batch={_batch} rho={_rho}'] \
                = _digits.wrapper(_lr, batch_size=_batch, rho=_rho, **_method)
# From float models that were trained by the same method.
_floats = {
    'SGD': 'SGD-wd-0-005-lr-0-3-batch-32',
    'SAM': 'SAM-wd-0-005-lr-0-1-batch-64-rho-0-3',
    'AUSAM, low (0.5)': 'AUSAM-low-0-5-wd-0-005-lr-0-1-batch-64-rho-0-3'}


def _from_its_own(name, method, text, **options):
    settings[f'{name} from its own {text}'] = {
        **_digits.wrapper(**options, **method),
        **_digits.float_model(
            _floats[name], study='label_noise_digits_tuning')}


_low = dict(_ausam, favor='low')
for _lr, _rho in ((0.01, 0.3), (0.03, 0.1)):
    _from_its_own('SGD', {}, f'lr={_lr}', lr=_lr)
    _from_its_own(
        'SAM', dict(type='SAM'), f'lr={_lr} rho={_rho}', lr=_lr, rho=_rho)
    _from_its_own(
        'AUSAM, low (0.5)', _low, f'lr={_lr} rho={_rho}', lr=_lr, rho=_rho)
for _batch in (32, 64, 128):
    for _lr in (0.01, 0.03, 0.1):
        for _decay in (5e-4, 5e-3, 2e-2):
            _from_its_own(
                'SGD', {}, f'lr={_lr} wd={_decay:g} batch={_batch}', lr=_lr,
                weight_decay=_decay, batch_size=_batch)
        # Larger batches have fewer steps, whose two passes each cost what
        # does not depend on the samples.
        if _batch > 32:
            _from_its_own(
                'AUSAM, low (0.5)', _low, f'lr={_lr} rho=0.3 batch={_batch}',
                lr=_lr, rho=0.3, batch_size=_batch)
        # The weight decay that is SGD's best.
        if _batch < 128:
            for _name, _method in (
                    ('SAM', dict(type='SAM')), ('AUSAM, low (0.5)', _low)):
                _from_its_own(
                    _name, _method,
                    f'lr={_lr} wd=0.02 rho=0.3 batch={_batch}', lr=_lr,
                    weight_decay=2e-2, rho=0.3, batch_size=_batch)
# Who stops early learns fewer wrong labels by heart.
_floats['SGD, a quarter as long'] = (
    'SGD-wd-0-005-lr-0-3-batch-64-epochs-10')
for _lr, _decay in itertools.product((0.003, 0.01, 0.03, 0.1), (5e-3, 2e-2)):
    for _name, _epoch, _epochs in (
            ('SGD', 40, 5), ('SGD, a quarter as long', 10, 5),
            ('SGD, a quarter as long', 10, 20)):
        settings[f'{_name} from its own lr={_lr} wd={_decay:g} '
                 f'epochs={_epochs}'] = {
            **_digits.wrapper(_lr, _decay), **_digits.float_model(
                _floats[_name], study='label_noise_digits_tuning',
                epoch=_epoch),
            **_digits.lasting(_epochs)}
seeds = (10, 11)

metric = 'accuracy/top1'
baseline = 'SGD lr=0.01 wd=0.005 batch=32'
comparisons = [('SAM lr=0.01 wd=0.005 batch=32 rho=0.3', baseline)]
reading = (
    'From the float model of SGD no method is far ahead of SGD with its own '
    'learning rate. From a float model of its own, SGD was searched over a '
    'grid of three learning rates, weight decays and batches on one seed, and '
    'the best of each batch again on another: a larger weight decay than in '
    "the float training helps it. SAM and AUSAM with favor='low' are ahead of "
    'it on both seeds, AUSAM with batches of 64 and 128, too.')
