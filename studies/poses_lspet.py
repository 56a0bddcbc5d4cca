"""SimCC from scratch on Leeds Sports Pose Extended.

The data: tools/dataset_converters/lspet.py
"""

question = 'What do SAM and AUSAM gain in 12 epochs of poses, with Adam?'

config = '../configs/pose/lspet/simcc_res18_b32_lspet-128x96.py'

options = {
    'train_cfg.max_epochs': 12,
    'param_scheduler.1.end': 12,
    'param_scheduler.1.T_max': 11,
}

_ausam = dict(type='AUSAM', rho=0.01, ramp_epochs=2)
settings = {
    'Adam': {},
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.01)),
    'AUSAM (0.5)': dict(optim_wrapper=dict(_ausam, alpha=0.5)),
    'AUSAM (0.25, 0.75)': dict(
        optim_wrapper=dict(_ausam, alpha=(0.25, 0.75))),
}
seeds = (0, )

metric = 'PCK'
factor = 100
comparisons = [('AUSAM (0.25, 0.75)', 'Adam')]
