# The schedule of AUSAM's authors for CIFAR: 200 epochs at batch 256.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3))

param_scheduler = dict(
    type='CosineAnnealingLR',
    eta_min=0.,
    T_max=200,
    convert_to_iter_based=True)

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=5)
auto_scale_lr = dict(base_batch_size=256)
