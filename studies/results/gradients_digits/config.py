# AUSAM on digits of which 40 % have wrong labels; no checkpoint is deleted.
_base_ = ('../../../configs/classification/digits/'
          'resnet18-c16-s2_b64_digits-noise40-8x8.py')

optim_wrapper = dict(
    type='AUSAM', rho=0.3, alpha=0.5, ramp_epochs=6,
    optimizer=dict(weight_decay=5e-4))
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=-1))
randomness = dict(seed=10)
train_cfg = dict(
    _delete_=True, type='ExactResumeEpochBasedTrainLoop', max_epochs=40,
    val_interval=2)
