optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))

param_scheduler = dict(
    type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=10,
    convert_to_iter_based=True)

train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=5)
auto_scale_lr = dict(base_batch_size=8)
