"""4-bit digits with 40 % wrong labels.

The float models:

    python tools/study.py studies/label_noise_digits.py \
        --cases '40 % wrong labels' --only 'SGD, tuned' SAM \
        'SGD, a quarter as long' 'AUSAM, low (0.5)' 'uniform (0.5)' --again
"""

import _quantized_digits as _digits

question = (
    'A network is trained on digits with 40 % wrong labels, quantized to 4 '
    'bits, and trained on with the same labels, both times by the same '
    'method. Does one at the cost of SGD gain what SAM gains? The settings '
    'come from quantized_digits_tuning.py, on other seeds.')

config = _digits.CONFIG

_ausam = dict(type='AUSAM', rho=0.3, alpha=0.5, ramp_epochs=3)


def _batch(model, size, **options):
    return {**_digits.wrapper(0.1, batch_size=size, **_ausam, **options),
            **_digits.float_model(model)}


settings = {
    'SGD, tuned': {
        **_digits.wrapper(0.03, 2e-2), **_digits.float_model('SGD-tuned')},
    # Who stops early learns fewer wrong labels by heart: the quantized
    # training, or both.
    'SGD, quantized a quarter as long': {
        **_digits.wrapper(0.03, 2e-2), **_digits.float_model('SGD-tuned'),
        **_digits.lasting(5)},
    'SGD, a quarter as long': {
        **_digits.wrapper(0.003, 2e-2),
        **_digits.float_model('SGD-a-quarter-as-long', epoch=10),
        **_digits.lasting(5)},
    'SAM': {
        **_digits.wrapper(type='SAM', rho=0.3), **_digits.float_model('SAM')},
    'AUSAM, low (0.5)': {
        **_digits.wrapper(favor='low', **_ausam),
        **_digits.float_model('AUSAM-low-0-5')},
    # The control: are the scores good for anything?
    'uniform (0.5)': {
        **_digits.wrapper(scores='uniform', **_ausam),
        **_digits.float_model('uniform-0-5')},
    # Fewer steps, of which each pass sees 32 or 64 samples.
    'AUSAM, low (0.5), batch=64': _batch('AUSAM-low-0-5', 64, favor='low'),
    'AUSAM, low (0.5), batch=128': _batch('AUSAM-low-0-5', 128, favor='low'),
    'uniform (0.5), batch=64': _batch('uniform-0-5', 64, scores='uniform'),
    'uniform (0.5), batch=128': _batch('uniform-0-5', 128, scores='uniform'),
    # The controls: what was good in a narrower search.
    'SGD, lr=0.03 wd=0.005': {
        **_digits.wrapper(0.03), **_digits.float_model('SGD-tuned')},
    'SGD, lr=0.003 wd=0.005': {
        **_digits.wrapper(0.003), **_digits.float_model('SGD-tuned')},
    # The controls: is it the float model, or the quantized training?
    "SGD, from SAM's model": {
        **_digits.wrapper(0.03), **_digits.float_model('SAM')},
    "SAM, from SGD's model": {
        **_digits.wrapper(type='SAM', rho=0.3),
        **_digits.float_model('SGD-tuned')},
    # What the float model gains by as much training.
    'float model, trained on': {
        'config': '../configs/classification/digits/'
                  'resnet18-c16-s2_b64_digits-noise40-8x8.py',
        **_digits.lasting(20),
        **_digits.wrapper(0.03), **_digits.float_model('SGD-tuned')},
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [
    ('SAM', 'SGD, tuned'),
    ('AUSAM, low (0.5)', 'SGD, tuned'),
    ('AUSAM, low (0.5), batch=64', 'SGD, tuned'),
    ('AUSAM, low (0.5), batch=64', 'uniform (0.5), batch=64'),
    ('AUSAM, low (0.5), batch=128', 'SGD, tuned'),
    ('AUSAM, low (0.5), batch=128', 'SGD, a quarter as long'),
    ('AUSAM, low (0.5), batch=128', 'uniform (0.5), batch=128'),
]
reading = (
    'Trained and quantized by the same method, SAM gains over SGD outside '
    "the interval, and AUSAM with favor='low' gains as much for about as "
    'many back-propagations as SGD. On so small a network the fixed cost of '
    'a pass counts: with the batch of SGD, 32, AUSAM takes longer, with 64 '
    'about as long, with 128 less. These batches suit it and, in the '
    'tuning, SGD less. Uniform samples do as well. SGD that stops the '
    'quantized training early, or both, is no better than SGD. Both '
    'trainings count: the float model of SAM falls far below when SGD '
    "trains it on, and from SGD's float model SAM is not ahead of SGD. SGD "
    'was searched over a grid of learning rate, weight decay and batch on '
    'one other seed, its best of each batch again on a second; SAM and '
    'AUSAM over parts of it. SGD, SAM, and AUSAM with 32 and 64 were timed '
    'in turn, with one other training on the other core; batches of 128 a '
    'little later, partly beside an installation, and the other rows '
    'earlier, beside more.')
