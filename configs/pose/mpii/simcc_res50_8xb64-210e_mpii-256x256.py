# mmpose's own training, with ausam_mm imported.
_base_ = 'mmpose::body_2d_keypoint/simcc/mpii/simcc_res50_wo-deconv-8xb64-210e_mpii-256x256.py'  # noqa: E501

custom_imports = dict(imports=['ausam_mm'], allow_failed_imports=False)
