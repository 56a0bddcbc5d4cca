# mmpretrain's own training, with ausam_mm imported.
_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'

custom_imports = dict(imports=['ausam_mm'], allow_failed_imports=False)
