"""AUSAM against data pruning on CIFAR-10, at the cost of SGD.

The data: mmpretrain downloads CIFAR-10 into data/cifar10. --scale tiny:
tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

import _cifar
import _methods
import _tiny

question = (
    'Less data makes SAM cheaper, too. What does ResNet-18 reach on CIFAR-10 '
    'at about the cost of 200 epochs of SGD: by SAM on half of the images, '
    'for half of the epochs, or with InfoBatch, and by AUSAM with InfoBatch? '
    "The settings of this comparison are this project's.")

config = _cifar.configs('cifar10')['ResNet-18']['config']


def _length(epochs):
    return {'train_cfg.max_epochs': epochs, 'param_scheduler.T_max': epochs}


def _infobatch(epochs):
    """Epochs get shorter: so many cost about what 200 of SGD do."""
    return {
        **_length(epochs), 'param_scheduler.convert_to_iter_based': False,
        'custom_hooks': [dict(type='InfoBatchHook')],
        'train_dataloader.sampler': dict(
            type='InfoBatchSampler', r=0.5, delta=0.875)}


_all = _methods.methods()
settings = {
    **{name: _all[name] for name in (
        'SGD', 'SAM', 'AUSAM (0.5)', 'uniform (0.5)')},
    # The archive's images are in a random order.
    'SAM, half of the images': {
        **_all['SAM'], 'train_dataloader.dataset.indices': 25_000},
    'SAM, half of the epochs': {**_all['SAM'], **_length(100)},
    'SAM, InfoBatch': {**_all['SAM'], **_infobatch(135)},
    'AUSAM (0.5), InfoBatch': {
        **_methods.methods(ramp_epochs=40)['AUSAM (0.5)'], **_infobatch(270)},
}
seeds = (0, 1, 2)
num_samples = 50_000

metric = 'accuracy/top1'
comparisons = [('AUSAM (0.5)', name) for name in settings
               if name.startswith('SAM, ')]
# As the settings above, of 4 epochs.
scales = dict(tiny=dict(
    seeds=(0, ), options=_tiny.classifier(10), settings={
        'SAM, half of the images': {
            'train_dataloader.dataset.indices': [*range(0, 2_000, 2)]},
        'SAM, half of the epochs': _tiny.schedule(2),
        'SAM, InfoBatch': _tiny.schedule(3),
        'AUSAM (0.5), InfoBatch': _tiny.schedule(5)}))
