# A top-down pose estimator on maps of EfficientNet-Lite0 at a sixteenth of the
# input's size, trained on ImageNet, with the weights that
# tools/model_converters/efficientnet_lite0.py writes. A config adds the head.
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor',
        mean=[127.] * 3,
        std=[128.] * 3,
        bgr_to_rgb=True),
    backbone=dict(
        type='mmpretrain.TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        out_indices=(3, ),  # 112 channels
        init_cfg=dict(
            type='Pretrained',
            checkpoint='data/pretrained/efficientnet-lite0_in1k.pth',
            prefix='backbone.')))
