optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-3))

param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.1, begin=0, end=2,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.,
        begin=2,
        end=12,
        T_max=10,
        convert_to_iter_based=True)
]

train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=3)
auto_scale_lr = dict(base_batch_size=64)
