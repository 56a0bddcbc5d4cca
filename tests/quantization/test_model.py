"""LSQModel in both libraries, built and trained as from a config."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from ausam_mm.quantization import (
    LSQLayer,
    LSQModel,
    fold_batchnorm,
    quantize_model,
    unfolded,
)

from .. import runs
from .models import (
    ARCHITECTURES,
    LAST,
    NAMES,
    PREPROCESSOR,
    data_of,
    float_model,
    images,
    layers_of,
    lsq_model,
    sample_of,
    scope_of,
    toy,
)


def bits_of(model):
    return {
        name: (layer.weight_quantizer.bits, layer.input_quantizer.bits)
        for name, layer in layers_of(model).items()
    }


@pytest.mark.parametrize('name', NAMES)
def test_first_and_last_layers_get_their_bits(name):
    model = lsq_model(name, w_bits=2, a_bits=3)
    bits = bits_of(model)
    edges = ['backbone.conv1', *LAST[name]]
    assert [name for name, b in bits.items() if b == (8, 8)] == edges
    assert {b for b in bits.values()} == {(8, 8), (2, 3)}
    assert len(bits) == sum(
        isinstance(m, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d))
        for m in model.modules())
    model(torch.stack(images(2)).relu(), None)
    quantizer = model.backbone.conv1.input_quantizer
    assert quantizer.bounds == (-128, 127)
    assert model.backbone.layer1[0].conv2.input_quantizer.bounds == (0, 7)
    for layer in layers_of(model).values():
        assert layer.weight_quantizer.ready and layer.input_quantizer.ready
        assert layer.weight_quantizer.signed
    left = lsq_model(name, first_last_bits=None)
    assert [*bits_of(left)] == [n for n in bits if n not in edges]


@pytest.mark.parametrize('name', NAMES)
def test_lsq_model_is_the_architecture_with_all_its_modes(name):
    model, data = lsq_model(name), data_of(name)
    assert type(model) is type(float_model(name))
    data = model.data_preprocessor(data, True)
    losses = model(**copy.deepcopy(data), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), parameter
    model.eval()
    with torch.no_grad():
        assert len(model(**copy.deepcopy(data), mode='predict')) == 8
        output = model(**data, mode='tensor')
    assert len(output[0] if isinstance(output, tuple) else output) == 8


@pytest.mark.parametrize('name', NAMES)
def test_without_step_sizes_eval_mode_is_the_float_model(name):
    x = torch.stack(images(4))
    reference, model = float_model(name).eval(), lsq_model(name).eval()
    # Both libraries' keys are the float model's, and nothing is missing.
    keys = model.load_state_dict(reference.state_dict())
    assert not keys.missing_keys and not keys.unexpected_keys
    with torch.no_grad():
        before = torch.cat([*reference(x, None)])
        assert torch.equal(torch.cat([*model(x, None)]), before)
        model.train()(x, None)
        model.eval()
        assert not torch.equal(torch.cat([*model(x, None)]), before)


def test_initialization_is_the_float_models():
    """By layer type, with as many random numbers."""
    models = []
    for build in float_model, lsq_model:
        model = build('classifier')
        torch.manual_seed(3)
        model.init_weights()
        models.append(dict(model.named_parameters()))
    for name, p in models[0].items():
        assert torch.equal(p, models[1][name]), name


@pytest.mark.parametrize('skip,floats', [
    (['head'], ['head.fc']),
    (['backbone.layer1.0.conv1', 'head.fc'],
     ['backbone.layer1.0.conv1', 'head.fc']),
    (['backbone.layer?.0.downsample.*'],
     [f'backbone.layer{i}.0.downsample.0' for i in (2, 3, 4)]),
    (['*.conv2'],
     [f'backbone.layer{i}.{j}.conv2' for i in (1, 2, 3, 4) for j in (0, 1)]),
    ([r'backbone\.layer[12]\.1\.conv(1|2)'],
     [f'backbone.layer{i}.1.conv{j}' for i in (1, 2) for j in (1, 2)]),
], ids=str)
def test_skipped_layers_stay_in_float(skip, floats):
    model = lsq_model('classifier', skip=skip)
    assert [
        name for name, m in model.named_modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
        and not isinstance(m, LSQLayer)
    ] == floats


@pytest.mark.parametrize('options,sentence', [
    (dict(skip=['neck']), "skip='neck' matches no layer: choose from .*conv"),
    (dict(skip='head'), 'put it into a list'),
    (dict(w_bits=1), 'choose 2 to 8 bits'),
    (dict(a_bits=16), 'choose 2 to 8 bits'),
    (dict(first_last_bits=0), 'choose 2 to 8 bits'),
], ids=str)
def test_impossible_settings_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        lsq_model('classifier', **options)
    with pytest.raises(ValueError, match='no layer to quantize'):
        quantize_model(nn.Sequential(nn.ReLU()))


def test_the_config_stays_as_it_was():
    init_default_scope('mmpretrain')
    config = ConfigDict(
        type='LSQModel', architecture=ARCHITECTURES['classifier'],
        data_preprocessor=PREPROCESSOR['classifier'])
    before = copy.deepcopy(config)
    assert MODELS.build(config).data_preprocessor.num_classes == 5
    assert config == before
    assert LSQModel(config.architecture).data_preprocessor.num_classes is None


def test_networks_of_other_libraries_are_quantized():
    """Such as timm's: plain modules in a sequence, a transformer beside it."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(2),
        nn.TransformerEncoderLayer(64, 2, 16, dropout=0., batch_first=True),
        nn.Linear(64, 4), nn.Linear(4, 4))
    report = quantize_model(model)
    assert report == dict(
        quantized=['2.linear1', '2.linear2', '3'], first=['0'], last=['4'],
        float=[])
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('config,first,last,norms', [
    (dict(type='RepVGG', arch='A0'),
     ['stem.branch_3x3.conv', 'stem.branch_1x1.conv'],
     ['stage_4.0.branch_1x1.conv'], 17),
    (dict(type='EfficientNet', arch='b0'), ['layers.0.conv'],
     ['layers.6.conv'], 0),
    (dict(type='RegNet', arch='regnetx_400mf'), ['conv1'],
     ['layer4.11.conv3'], 0)], ids=lambda v: str(v)[:20])
def test_backbones_of_mmpretrain_work(config, first, last, norms):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(config)
    report = quantize_model(model)
    assert (report['first'], report['last']) == (first, last)
    assert report['float'] == []
    x = torch.randn(2, 3, 32, 32)
    model.train()
    model(x)
    assert all(layer.input_quantizer.ready
               for layer in layers_of(model).values())
    folded = fold_batchnorm(model, x)
    left = unfolded(folded)
    assert len(left) == norms
    # RepVGG's branches without convolution.
    assert all(name.endswith('.branch_norm') for name in left)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(folded(x)[0], model(x)[0], rtol=1e-3,
                                   atol=1e-3)


def test_a_pytorchcv_backbone_works():
    pytest.importorskip('pytorchcv')
    model = LSQModel(dict(
        type='PytorchCVBackbone', model_name='resnet20_cifar10'))
    assert model(torch.randn(2, 3, 32, 32))[0].shape == (2, 64, 8, 8)
    assert all(layer.input_quantizer.ready
               for layer in layers_of(model).values())


def test_mobilenet_v2_for_small_images_works():
    init_default_scope('mmpretrain')
    backbone = dict(type='MobileNetV2_CIFAR', widen_factor=0.25)
    model = LSQModel(backbone)
    assert model(torch.randn(2, 3, 32, 32))[0].shape == (2, 1280, 4, 4)
    ready = [layer.input_quantizer.ready
             for layer in layers_of(model).values()]
    assert len(ready) == 52 and all(ready)
    usual = MODELS.build(dict(backbone, strides=(2, 1, 2, 2, 2, 1, 2, 1)))
    other = MODELS.build(dict(type='MobileNetV2', widen_factor=0.25))
    other.load_state_dict(usual.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(usual(x), other(x))
    with pytest.raises(ValueError, match='give eight'):
        MODELS.build(dict(backbone, strides=(1, 2)))


def test_per_channel_steps_count_each_channels_weights():
    model = lsq_model('classifier', per_channel=True)
    layer = model.backbone.layer2[0].conv1
    assert layer.weight_quantizer.step.shape == (8, 1, 1, 1)
    assert layer.input_quantizer.step.shape == ()


def test_test_time_augmentation_wraps_it():
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(
        type='AverageClsScoreTTA', module=dict(
            type='LSQModel', architecture=ARCHITECTURES['classifier'],
            data_preprocessor=PREPROCESSOR['classifier'])))
    model.module(torch.stack(images(4)))
    views = [data_of('classifier', 2, seed) for seed in (0, 1)]
    batch = dict(inputs=[torch.stack(view['inputs']) for view in views],
                 data_samples=[view['data_samples'] for view in views])
    assert len(model.eval().test_step(batch)) == 2


@pytest.mark.parametrize('options', [
    dict(frozen_stages=1), dict(with_cp=True), dict(norm_eval=True)], ids=str)
def test_options_of_backbones_work(options):
    architecture = copy.deepcopy(ARCHITECTURES['classifier'])
    architecture['backbone'].update(options)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = LSQModel(architecture, data_preprocessor=dict(num_classes=5))
    plain = LSQModel(ARCHITECTURES['classifier'])
    plain.load_state_dict(model.state_dict())
    for m in model, plain:
        torch.manual_seed(0)
        m.train()
        m(torch.stack(images(4))).square().sum().backward()
        for layer in layers_of(m).values():
            assert layer.input_quantizer.ready
    frozen = 'frozen_stages' in options
    for (name, p), q in zip(model.named_parameters(), plain.parameters()):
        if frozen and name.startswith(
                ('backbone.conv1', 'backbone.bn1', 'backbone.layer1')):
            assert not p.requires_grad and p.grad is None, name
        elif 'with_cp' in options:
            torch.testing.assert_close(p.grad, q.grad)
        else:
            assert p.grad.isfinite().all(), name


class Samples(torch.utils.data.Dataset):

    def __init__(self, name):
        self.name, self.images = name, images(12)

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return dict(inputs=self.images[i],
                    data_samples=sample_of(self.name, i))


def train(name, work_dir, wrapper, length=4, load_from=None, resume=False,
          **model):
    """From a config, with the data_preprocessor where mmpretrain puts it."""
    config = dict(type='LSQModel', architecture=ARCHITECTURES[name], **model)
    run = Runner(
        model=ARCHITECTURES[name] if model.get('plain') else config,
        work_dir=str(work_dir),
        data_preprocessor=PREPROCESSOR[name],
        train_dataloader=dict(
            batch_size=6, num_workers=0, dataset=Samples(name),
            sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=dict(by_epoch=False, max_iters=length),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9), **wrapper),
        custom_hooks=[dict(type='StepSizeHook'),
                      dict(type='EMAHook', momentum=0.1)],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=2,
                            by_epoch=False)),
        default_scope=scope_of(name),
        randomness=dict(seed=0),
        load_from=load_from,
        resume=resume,
        experiment_name=f'lsq_{next(runs._names)}')
    run.train()
    return run


WRAPPERS = dict(
    plain=dict(type='OptimWrapper'),
    sam=dict(type='SAM', rho=0.05),
    ausam=dict(type='AUSAM', rho=0.05, alpha=0.5, warmup_iters=1))


@pytest.mark.parametrize('name,wrapper', [
    *(('classifier', wrapper) for wrapper in WRAPPERS),
    ('simcc', 'ausam'), ('heatmap', 'ausam')])
def test_the_runner_trains_and_resumes(name, wrapper, tmp_path):
    reference = float_model(name)
    torch.save(dict(state_dict=reference.state_dict()), tmp_path / 'float.pth')
    run = train(name, tmp_path, WRAPPERS[wrapper],
                load_from=str(tmp_path / 'float.pth'))
    assert run.iter == 4
    weights = dict(reference.named_parameters())
    for parameter, p in run.model.named_parameters():
        assert p.isfinite().all(), parameter
        if parameter in weights and p.ndim == 4:  # a few small steps off
            assert 0 < (p - weights[parameter]).abs().max() < 0.2
    resumed = train(name, tmp_path, WRAPPERS[wrapper], length=6, resume=True)
    assert resumed.iter == 6
    state = torch.load(tmp_path / 'iter_4.pth', weights_only=False)
    for layer, module in layers_of(resumed.model).items():
        for kind in 'weight_quantizer', 'input_quantizer':
            quantizer = getattr(module, kind)
            key = f'{layer}.{kind}'
            before = state['state_dict'][f'{key}.step']
            assert before > 0 and quantizer.step > 0
            # Trained on from there, not initialized again.
            assert 0 < abs(quantizer.step - before) < 0.5 * before, key
            assert state['state_dict'][f'{key}.initialized'] == 1
            assert f'module.{key}.step' in state['ema_state_dict'] or \
                f'{key}.step' in state['ema_state_dict']


def test_a_resumed_run_is_the_one_that_went_on(tmp_path):
    wrapper = dict(type='AUSAM', rho=0.1, alpha=0.5, warmup_iters=1)
    whole = runs.runner(tmp_path / 'a', wrapper, model=toy(),
                        exact=True, custom_hooks=[dict(type='StepSizeHook')])
    whole.train()
    part = runs.runner(
        tmp_path / 'b', wrapper, model=toy(), exact=True,
        custom_hooks=[dict(type='StepSizeHook'), runs.Stop(6)])
    with pytest.raises(KeyboardInterrupt):
        part.train()
    again = runs.runner(tmp_path / 'b', wrapper, model=toy(1), resume=True,
                        exact=True, custom_hooks=[dict(type='StepSizeHook')])
    again.train()
    for (name, p), q in zip(whole.model.state_dict().items(),
                            again.model.state_dict().values()):
        assert torch.equal(p, q), name
