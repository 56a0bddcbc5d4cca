# Fine-tuning by LSQ. A config of configs/quantization inherits its float
# config and this file, and assigns what is in `_base_.lsq`: MMEngine refuses
# two bases that set the same key. Its `load_from` is the checkpoint that
# training the float config leaves; its learning rate is a tenth of the float
# model's, as in LSQ's paper.
lsq = dict(
    custom_imports=dict(
        imports=['ausam_mm.quantization'], allow_failed_imports=False),
    custom_hooks=[dict(type='StepSizeHook')],
    model=dict(type='LSQModel', w_bits=4, a_bits=4),
    # Step sizes have no weight decay.
    paramwise_cfg=dict(
        custom_keys={'quantizer.step': dict(decay_mult=0.)}),
    param_scheduler=dict(
        type='CosineAnnealingLR', eta_min=0., convert_to_iter_based=True))
