_base_ = './ausam_paper.py'

param_scheduler = dict(T_max=80)
train_cfg = dict(max_epochs=80)
auto_scale_lr = dict(base_batch_size=128)
