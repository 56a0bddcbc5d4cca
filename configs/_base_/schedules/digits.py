_base_ = './ausam_paper.py'

param_scheduler = dict(T_max=12)
train_cfg = dict(max_epochs=12, val_interval=2)
auto_scale_lr = dict(base_batch_size=64)
