"""Trains on digits, of whose labels 40 % are wrong."""

custom_imports = dict(imports=['ausam_mm', 'digits_project'])

model = dict(type='DigitNet')
loader = dict(num_workers=0, collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    batch_size=64, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='LabelNoise', ratio=0.4, dataset=dict(type='Digits')),
    **loader)
val_dataloader = dict(
    batch_size=180, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', test=True), **loader)
val_evaluator = dict(type='DigitsRead', prefix='digits')
val_cfg = dict()

train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=20)
optim_wrapper = dict(optimizer=dict(
    type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='CosineAnnealingLR', T_max=20)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=20))
randomness = dict(seed=0)
log_level = 'ERROR'
