optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10.))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=2,
         convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0., begin=2, end=40, T_max=38,
         convert_to_iter_based=True)
]

train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=10)
auto_scale_lr = dict(base_batch_size=8)
