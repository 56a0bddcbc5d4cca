"""Fine-tuning a pose estimator with 4-bit weights and inputs.

The float model:

    python tools/train.py configs/pose/lspet/simcc_res18_b32_lspet-128x96.py \
        --work-dir work_dirs/float_lspet_c16 --cfg-options \
        model.backbone.base_channels=16 model.backbone.stem_channels=16 \
        model.head.in_channels=128 train_cfg.max_epochs=12 \
        param_scheduler.1.end=12 param_scheduler.1.T_max=11
"""

question = 'What do SAM and AUSAM gain in fine-tuning a 4-bit pose estimator?'

config = '../configs/quantization/lspet/simcc_res18-w4a4_b32_lspet-128x96.py'

options = {
    'load_from': 'work_dirs/float_lspet_c16/epoch_12.pth',
    'model.architecture.backbone.base_channels': 16,
    'model.architecture.backbone.stem_channels': 16,
    'model.architecture.head.in_channels': 128,
    'train_cfg.max_epochs': 4,
    'param_scheduler.T_max': 4,
}

settings = {
    'Adam': {},
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.01)),
    'AUSAM (0.5)': dict(optim_wrapper=dict(
        type='AUSAM', rho=0.01, alpha=0.5, ramp_epochs=1)),
}
seeds = (0, )

metric = 'PCK'
factor = 100
comparisons = [('AUSAM (0.5)', 'Adam')]
