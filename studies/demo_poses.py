"""Poses of generated figures, by tools/demo.py."""

question = ('A pose estimator on generated figures, with Adam: what does each '
            'method gain, and what does it cost?')
config = '../configs/pose/figures/simcc_res18-c16_b64_figures-64x64.py'
settings = {
    'Adam': {},
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.002)),
    'AUSAM (0.25, 0.75)': dict(optim_wrapper=dict(
        type='AUSAM', rho=0.002, alpha=(0.25, 0.75), ramp_epochs=2)),
}
seeds = (0, )
metric = 'PCK'
factor = 100
comparisons = [('AUSAM (0.25, 0.75)', 'Adam')]
