"""10,000 images of CIFAR-10, 40 % of whose labels are wrong.

The data: tools/dataset_converters/cifar.py SOURCE --num-train 10000 \
    --out data/cifar10_10000
"""

import _cifar10_10000_with_noise as _cifar

question = (
    'Real images with 40 % wrong labels, which a network learns by heart: '
    'does a method at the cost of SGD gain what SAM gains, over SGD with its '
    'own best options? These are to come from '
    'label_noise_cifar10_10000_tuning.py, on another seed, whose search has '
    'begun: the settings here are guesses.')

config = _cifar.CONFIG

# weight decay, learning rate, batch; and rho
_sgd = _cifar.wrapper(5e-3, 0.1, 128)
_sam = dict(weight_decay=5e-3, batch_size=128, rho=0.1)
_ausam = dict(weight_decay=5e-3, batch_size=128, rho=0.1)

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(_ausam, type='AUSAM', ramp_epochs=4)
settings = {
    'SGD, tuned': _sgd,
    # What SAM costs.
    'SGD, tuned, twice as long': {
        **_sgd, 'train_cfg.max_epochs': 60, 'param_scheduler.T_max': 60},
    'SGD': _cifar.wrapper(5e-4, 0.1, 128),
    'SAM': _cifar.wrapper(type='SAM', **_sam),
    'AUSAM, low (0.5)': _cifar.wrapper(alpha=0.5, favor='low', **_ausam),
    'AUSAM (0.5)': _cifar.wrapper(alpha=0.5, **_ausam),
    # The control: are the scores good for anything?
    'uniform (0.5)': _cifar.wrapper(alpha=0.5, scores='uniform', **_ausam),
    'AUSAM, low (0.25, 0.75)': _cifar.wrapper(
        alpha=(0.25, 0.75), favor='low', **_ausam),
}
seeds = (0, 1, 2)

metric = 'accuracy/top1'
baseline = 'SGD, tuned'
comparisons = [('SAM', 'SGD, tuned'), ('AUSAM, low (0.5)', 'SGD, tuned'),
               ('AUSAM, low (0.5)', 'uniform (0.5)')]
