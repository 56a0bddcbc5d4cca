# mmpose's own training, with ausam_mm imported.
_base_ = 'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-m_8xb256-420e_coco-256x192.py'  # noqa: E501

custom_imports = dict(imports=['ausam_mm'], allow_failed_imports=False)
