"""Precision, overflows, compiling, memory layouts, BatchNorm, resuming."""

import copy
import shutil

import pytest
import torch
from mmengine.device import get_device
from torch import nn

from ..engine.test_precision import Overflowing
from ..runs import runner
from ..toy import ToyModel, batch, build, difference, reference_step, wrap
from .trainings import METHODS, amp_base, record_selections, vector

# Of the length of the gradient.
TOLERANCES = dict(float64=1e-9, float32=1e-4, float16=0.01, bfloat16=0.05)


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('method', METHODS)
def test_the_optimizer_gets_the_gradient_of_the_reference(
        device, method, dtype):
    base = None if dtype in ('float64', 'float32') else amp_base(
        device, dtype)
    model = build().to(
        device, torch.double if dtype == 'float64' else torch.float)
    wrapper = wrap(model, momentum=0., weight_decay=0., base=base,
                   **METHODS[method])
    selections = record_selections(wrapper)
    for step in range(4):
        start = copy.deepcopy(model).double()
        model.train_step(batch(step), wrapper)
    expected = copy.deepcopy(start)
    reference_step(
        expected, torch.optim.SGD(expected.parameters(), lr=0.05),
        expected.data_preprocessor(batch(3)), 0.3, selections[-1].ascent,
        selections[-1].descent)
    assert len(selections[-1].ascent) == 16 * dict(
        SAM=1, AUSAM=0.5, pair=0.25)[method]
    move = vector(expected) - vector(start)
    error = vector(model) - vector(expected)
    assert error.norm() < TOLERANCES[dtype] * move.norm()


# Two passes a step: the calls 4 and 5 are the third step's.
@pytest.mark.parametrize('bad', [(4, ), (5, )], ids=['first', 'second'])
@pytest.mark.parametrize('method', METHODS)
def test_an_overflow_skips_the_step_and_halves_the_loss_scale(
        device, method, bad):
    torch.manual_seed(0)
    model = Overflowing(norm=True).to(device).train()
    model.bad = bad
    wrapper = wrap(model, base=amp_base(device, 'float16'), **METHODS[method])

    def state():
        momentum = [state['momentum_buffer'] for state in
                    wrapper.optimizer.state.values()]
        return copy.deepcopy([list(model.parameters()), momentum])

    for step in range(2):
        model.train_step(batch(step), wrapper)
    before = state()
    table = wrapper.history.state_dict() if method != 'SAM' else None
    assert wrapper.loss_scaler.get_scale() == 2**10
    model.train_step(batch(2), wrapper)
    torch.testing.assert_close(state(), before, rtol=0, atol=0)
    assert wrapper.loss_scaler.get_scale() == 2**9
    assert wrapper.skipped_perturbations == (4 in bad)
    if table and 4 in bad:  # the loss at w + eps is unknown
        torch.testing.assert_close(wrapper.history.state_dict(), table)
    for step in range(3, 6):
        model.train_step(batch(step), wrapper)
    assert wrapper.loss_scaler.get_scale() == 2**9
    assert not torch.equal(model.net[0].weight, before[0][0])
    assert all(value.isfinite().all() for value in model.state_dict().values())
    if table:
        assert wrapper.history.means(torch.arange(16)).isfinite().all()


@pytest.mark.parametrize('method', METHODS)
def test_a_compiled_forward_trains_as_the_eager_one(device, method):
    if device == 'cuda' and not any(map(shutil.which, ('cc', 'gcc', 'clang'))):
        pytest.skip('Triton needs a C compiler.')
    torch._dynamo.reset()
    # On a CPU inductor needs a C++ compiler.
    backend = 'inductor' if device == 'cuda' else 'aot_eager'
    models, tables = [], []
    for compiled in (True, False):
        model = build(norm=True).float().to(device)
        if compiled:
            model.forward = torch.compile(model.forward, backend=backend)
        wrapper = wrap(model, **METHODS[method])
        for step in range(6):
            model.train_step(batch(step), wrapper)
        models.append(model)
        if method != 'SAM':
            tables.append(wrapper.history.means(torch.arange(16)))
    assert difference(*models) < 1e-4
    if tables:
        torch.testing.assert_close(*tables, rtol=1e-3, atol=1e-3)


class Images(ToyModel):
    """A small convolutional network."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize('method', METHODS)
def test_channels_last_is_kept_and_trains_as_contiguous(
        device, method, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    models = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = Images().to(device, memory_format=layout).train()
        wrapper = wrap(model, **METHODS[method])
        for step in range(5):
            images = torch.randn(
                16, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            model.train_step(
                dict(batch(step), inputs=images.to(memory_format=layout)),
                wrapper)
        models.append(model)
    assert difference(*models) < 1e-4
    weight = models[1].net[0].weight
    for tensor in (weight, wrapper.perturbation._buffers[weight]):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()


@pytest.mark.parametrize('method', METHODS)
def test_syncbatchnorm_statistics_move_once_a_step(device, method):
    model = nn.SyncBatchNorm.convert_sync_batchnorm(
        build(norm=True).to(device))
    outputs = model.net[0](model.data_preprocessor(batch())['inputs'])
    wrapper = wrap(model, **METHODS[method])
    model.train_step(batch(), wrapper)  # the first one sees the full batch
    norm = model.net[1]
    torch.testing.assert_close(norm.running_mean, 0.1 * outputs.mean(0))
    for step in range(1, 4):
        model.train_step(batch(step), wrapper)
    assert isinstance(norm, nn.SyncBatchNorm) and norm.track_running_stats
    assert norm.num_batches_tracked == 4


@pytest.mark.parametrize('selected_by', ['wrapper', 'loader'])
def test_a_resumed_training_ends_as_the_uninterrupted_one(
        device, selected_by, tmp_path):
    """MMEngine loads a checkpoint's tensors onto the device."""
    if device != get_device():
        pytest.skip('A Runner trains on the GPU where there is one.')
    ends = []
    for name, options in dict(
            whole={}, resumed=dict(
                resume=True, load_from=str(tmp_path / 'whole/epoch_2.pth'))
            ).items():
        run = runner(
            tmp_path / name,
            dict(METHODS['AUSAM'], base=amp_base(device, 'float16')),
            model=ToyModel(norm=True), **options)
        if selected_by == 'loader':
            run._train_dataloader['batch_sampler'] = dict(
                type='AUSAMBatchSampler')
        run.train()
        method = run.optim_wrapper.method_state()
        assert method.pop('loss_modules')['calls']['loss_module'][
            'in_total'] == 'mean'
        ends.append((vector(run.model), method,
                     run.optim_wrapper.loss_scaler.state_dict()))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)
    assert len(ends[0][1]['history']['keys']) == 24


def test_random_sam_repeats_a_seed_s_directions_on_a_device(device):

    def trained(seed):
        model = build().to(device)
        wrapper = wrap(model, type='RandomSAM', rho=0.3, seed=seed)
        for step in range(3):
            model.train_step(batch(step), wrapper)
        return vector(model)

    assert torch.equal(trained(0), trained(0))
    assert not torch.allclose(trained(0), trained(1))
