"""Small models of both libraries, in float and quantized."""

import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from ausam_mm.quantization import LSQLayer, quantize_model

from ..toy import build

K = 3
PREPROCESSOR = dict(
    classifier=dict(num_classes=5, mean=[0.] * 3, std=[1.] * 3),
    simcc=dict(type='PoseDataPreprocessor'),
    heatmap=dict(type='PoseDataPreprocessor'))
SIMCC = dict(type='SimCCLabel', input_size=(32, 32), sigma=4.)
HEATMAP = dict(
    type='MSRAHeatmap', input_size=(32, 32), heatmap_size=(8, 8), sigma=2)
BACKBONE = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
ARCHITECTURES = dict(
    classifier=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=5, in_channels=32,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1))),
    simcc=dict(
        type='mmpose.TopdownPoseEstimator',
        backbone=BACKBONE,
        head=dict(
            type='SimCCHead', in_channels=32, out_channels=K,
            input_size=(32, 32), in_featuremap_size=(1, 1),
            deconv_out_channels=None, decoder=SIMCC)),
    heatmap=dict(
        type='mmpose.TopdownPoseEstimator',
        backbone=BACKBONE,
        head=dict(
            type='HeatmapHead', in_channels=32, out_channels=K,
            deconv_out_channels=(8, 8, 8),
            loss=dict(type='KeypointMSELoss', use_target_weight=True),
            decoder=HEATMAP)))
NAMES = list(ARCHITECTURES)
LAST = dict(classifier=['head.fc'],
            simcc=['head.mlp_head_x', 'head.mlp_head_y'],
            heatmap=['head.final_layer'])


def scope_of(name):
    return ARCHITECTURES[name]['type'].partition('.')[0]


def float_model(name):
    init_default_scope(scope_of(name))
    torch.manual_seed(0)
    model = MODELS.build(
        dict(ARCHITECTURES[name], data_preprocessor=PREPROCESSOR[name]))
    return _with_statistics(model).train()


def lsq_model(name, architecture=None, **options):
    init_default_scope(scope_of(name))
    torch.manual_seed(0)
    model = MODELS.build(
        dict(type='LSQModel',
             architecture=architecture or ARCHITECTURES[name],
             data_preprocessor=PREPROCESSOR[name], **options))
    return _with_statistics(model).train()


def _with_statistics(model):
    """BatchNorm as after a training, with factors of either sign."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.2, 2.),
                                      (module.bias, -0.3, 0.3),
                                      (module.running_mean, -0.3, 0.3),
                                      (module.running_var, 0.5, 2.)):
                tensor.data.uniform_(low, high, generator=generator)
    return model


def images(size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(size, 3, 32, 32, generator=generator))


def sample_of(name, i):
    """The data sample of one image."""
    if name == 'classifier':
        from mmpretrain.structures import DataSample
        return DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i % 5)
    from mmpose.registry import KEYPOINT_CODECS
    from mmpose.structures import PoseDataSample
    codec = KEYPOINT_CODECS.build(HEATMAP if name == 'heatmap' else SIMCC)
    generator = torch.Generator().manual_seed(i)
    joints = torch.rand(1, K, 2, generator=generator).numpy() * 32
    encoded = codec.encode(joints, torch.ones(1, K).numpy())
    # What a test pipeline packs.
    sample = PoseDataSample(metainfo=dict(
        id=i, img_id=i, input_center=torch.tensor([16., 16.]).numpy(),
        input_scale=torch.tensor([32., 32.]).numpy(), input_size=(32, 32),
        flip_indices=list(range(K))))
    sample.gt_instance_labels = InstanceData(**{
        key: value for key, value in encoded.items()
        if key.startswith('keypoint_')}).to_tensor()
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[0., 0., 32., 32.]]).numpy(),
        bbox_scores=torch.ones(1).numpy())
    if 'heatmaps' in encoded:
        from mmengine.structures import PixelData
        sample.gt_fields = PixelData(heatmaps=encoded['heatmaps']).to_tensor()
    return sample


def data_of(name, size=8, seed=0):
    return dict(inputs=images(size, seed),
                data_samples=[sample_of(name, i) for i in range(size)])


def layers_of(model):
    return {name: module for name, module in model.named_modules()
            if isinstance(module, LSQLayer)}


def toy(seed=0, **options):
    """The small model of the other tests, both of its layers at 3 bits."""
    model = build(seed, norm=True)
    quantize_model(model, 3, 3, first_last_bits=3, **options)
    return model
