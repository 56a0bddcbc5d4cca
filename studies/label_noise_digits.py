"""Handwritten digits, of whose training labels some are wrong.

The data: tools/dataset_converters/digits.py
"""

from pathlib import Path

from mmengine.config import Config

question = (
    'A network that is trained long enough learns wrong labels by heart, and '
    'SAM is known to resist. With 0, 20, 40 and 60 % wrong labels: does AUSAM '
    'resist as SAM does, at the cost of SGD?')

config = '../configs/classification/digits/resnet18-c16_b64_digits.py'

# Long enough to fit wrong labels.
options = {
    'train_cfg.max_epochs': 60,
    'train_cfg.val_interval': 5,
    'param_scheduler.T_max': 60,
}

_digits = Config.fromfile(
    Path(__file__).parent / config,
    import_custom_modules=False).train_dataloader.dataset
# The same labels are wrong for all settings and seeds.
cases = {
    f'{percent} % wrong labels': dict(train_dataloader=dict(dataset=dict(
        _delete_=True, type='LabelNoise', dataset=_digits.to_dict(),
        ratio=percent / 100, kind='uniform', seed=0)) if percent else {})
    for percent in (0, 20, 40, 60)
}

# The ramp is the paper's share of the training: 30 epochs of 200.
_ausam = dict(type='AUSAM', rho=0.1, ramp_epochs=9)
settings = {
    'SGD': {},
    # What SAM costs.
    'SGD twice as long': {
        'train_cfg.max_epochs': 120,
        'param_scheduler.T_max': 120
    },
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.1)),
    'AUSAM (0.5)': dict(optim_wrapper=dict(_ausam, alpha=0.5)),
    'AUSAM (0.25, 0.75)': dict(
        optim_wrapper=dict(_ausam, alpha=(0.25, 0.75))),
    # The control: are the scores good for anything?
    'uniform (0.25, 0.75)': dict(optim_wrapper=dict(
        _ausam, alpha=(0.25, 0.75), scores='uniform')),
}
seeds = (0, 1, 2, 3, 4)

metric = 'accuracy/top1'
baseline = 'SGD'
comparison = ('AUSAM (0.25, 0.75)', 'SGD')
