# mmpose's own training, with ausam_mm imported.
_base_ = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py'  # noqa: E501

custom_imports = dict(imports=['ausam_mm'], allow_failed_imports=False)
