"""Few handwritten digits: a network that overfits clean data.

The data: tools/dataset_converters/digits.py
"""

import _overfitting_digits as _digits

question = (
    'SAM helps where a network fits its data better than it generalizes. '
    'With 72 clean images, without and with label smoothing: does a method at '
    'the cost of SGD gain what SAM gains, over SGD with its own best options? '
    'The settings come from overfitting_digits_tuning.py, on other seeds and '
    'without label smoothing.')

config = _digits.CONFIG
options = {**_digits.OPTIONS, **_digits.images(72)}
cases = {
    '72 images': {},
    '72 images, label smoothing': {
        'model.head.loss': dict(
            _delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1,
            mode='original')},
}

# weight decay, learning rate, batch; and rho
_sgd = _digits.wrapper(2e-2, 0.1, 32)
_sam = dict(type='SAM', weight_decay=2e-2, batch_size=16, rho=0.1)
_others = dict(weight_decay=5e-3, batch_size=16, rho=0.3)
_ausam = dict(_others, type='AUSAM', alpha=0.5)
_pair = dict(_ausam, alpha=(0.25, 0.75))
_split = dict(_others, type='SplitSAM')
_long = {'train_cfg.max_epochs': 400, 'param_scheduler.T_max': 400}
settings = {
    'SGD, tuned': _sgd,
    # What SAM costs.
    'SGD, tuned, twice as long': {**_sgd, **_long},
    'SAM': _digits.wrapper(**_sam),
    # The controls: the batch of the others, and SGD's.
    'SGD, batch=16': _digits.wrapper(2e-2, 0.1, 16),
    'AUSAM (0.25, 0.75), batch=32': _digits.wrapper(
        **{**_pair, 'batch_size': 32}),
    'AUSAM (0.5)': _digits.wrapper(**_ausam),
    'AUSAM (0.25, 0.75)': _digits.wrapper(**_pair),
    'AUSAM (0.4)': _digits.wrapper(**{**_ausam, 'alpha': 0.4}),
    # The controls: are the scores good for anything?
    'uniform (0.5)': _digits.wrapper(scores='uniform', **_ausam),
    'uniform (0.25, 0.75)': _digits.wrapper(scores='uniform', **_pair),
    'AUSAM, low (0.5)': _digits.wrapper(favor='low', **_ausam),
    'loss (0.5)': _digits.wrapper(scores='loss', **_ausam),
    'gradient norm (0.5)': _digits.wrapper(scores='gradient_norm', **_ausam),
    'SplitSAM': _digits.wrapper(**_split),
    'SplitSAM (0.25)': _digits.wrapper(ratio=0.25, **_split),
    'SplitSAM (0.75)': _digits.wrapper(ratio=0.75, **_split),
    # The controls: is its direction good for anything, and its first gradient?
    'SplitSAM, random direction': _digits.wrapper(
        direction='random', **_split),
    'SplitSAM, second gradient only': _digits.wrapper(
        weighting='second', **_split),
    'SAMPa': _digits.wrapper(type='SAMPa', **_others),
    'ESAM': _digits.wrapper(type='ESAM', **_others),
    'AESAM': _digits.wrapper(type='AESAM', **_others),
    'MSAM': _digits.wrapper(type='MSAM', **{**_others, 'rho': 3.}),
    'SAM, twice as long': {**_digits.wrapper(**_sam), **_long},
    'AUSAM (0.5), twice as long': {
        **_digits.wrapper(ramp_epochs=60, **_ausam), **_long},
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [('SAM', 'SGD, tuned'), ('AUSAM (0.5)', 'SGD, tuned'),
               ('AUSAM (0.5)', 'uniform (0.5)'),
               ('AUSAM (0.25, 0.75)', 'uniform (0.25, 0.75)'),
               ('SplitSAM', 'SGD, tuned')]
reading = (
    'SAM, AE-SAM, SAMPa and AUSAM are ahead of SGD with its own best '
    'options by one or two points, and nearly all intervals contain 0: no '
    'ground that five seeds can show. AUSAM (0.25, 0.75) is ahead outside '
    'its interval, one of more than twenty rows, and against uniform '
    'samples within it. The highest losses and the norms of gradients '
    'select no better than chance. AUSAM needs more, smaller batches than '
    'SGD; with the batch of SGD it is not ahead. So its seconds are twice '
    'those of SGD, though its steps cost as much. MSAM is behind, SplitSAM '
    'where SGD is. Twice as long SGD gains nothing. Label smoothing gains '
    'SGD about as much as the best method does, and with it SAM and AUSAM '
    'show no further gain that five seeds can show. A second training ran '
    'on the other core.')
