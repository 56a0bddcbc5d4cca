"""Handwritten digits with 40 % wrong labels: which rho suits each method?

The data: tools/dataset_converters/digits.py
"""

import itertools

import _digits_with_noise as _digits

question = (
    'Where 40 % of the labels are wrong, and with the weight decay, learning '
    'rate and batch of SAM in label_noise_digits.py: which rho suits each of '
    'the other methods? On a seed that methods_digits.py does not use; its '
    'rho come from here.')

config = _digits.CONFIG
options = _digits.wrong_labels(40)

_methods = ('GSAM', 'FSAM', 'VSAM', 'ESAM', 'KSAM', 'SSSAM', 'SAMPa',
            'LookSAM', 'AESAM', 'AELookSAM', 'RandomSAM')
settings = {
    f'{method} rho={rho:g}': _digits.wrapper(5e-3, type=method, rho=rho)
    for method, rho in [
        *itertools.product(_methods, (0.05, 0.1, 0.3)),
        # One step of momentum: its rho is another measure.
        *itertools.product(('MSAM', ), (1., 3., 10.))]}
seeds = (10, )

metric = 'accuracy/top1'
baseline = 'GSAM rho=0.3'
comparisons = [('FSAM rho=0.3', 'GSAM rho=0.3')]
reading = (
    'One seed. Most methods need the larger rho here, as SAM does: at 0.1 '
    'they learn the wrong labels by heart. AE-LookSAM needs the smaller one. '
    'LookSAM stays at chance with all three, and on this seed no rho makes '
    'ESAM, KSAM and Random-SAM resist. A rho of 0.05 was run only for ESAM, '
    'LookSAM and AE-LookSAM.')
