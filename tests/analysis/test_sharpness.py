"""Sharpness against a dense Hessian and quadratics with known answers."""

import copy
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from ausam_mm import checkpoint_loading
from ausam_mm.analysis import sharpness, sharpness_report
from ausam_mm.analysis.commands import sharpness as command
from ausam_mm.analysis.commands import weights
from ausam_mm.analysis.objective import (
    Objective,
    batches_of,
    load_weights,
    read_samples,
)
from ausam_mm.quantization import quantize_model
from ausam_mm.tooling.settings import build_model, merge, scope_of

from ..runs import Samples, runner
from ..tools.test_tools import PLAIN, POSE, ROOT, data, run  # noqa: F401
from ..toy import SquaredLoss, batch, build, sample_losses

TOOL = ROOT / 'tools' / 'analyze.py'


class Quadratic(BaseModel):
    """The loss w' A w / 2 + b' w, with w = 0."""

    def __init__(self, A, b):  # noqa: N803
        super().__init__()
        self.A, self.b = A, b
        self.w = nn.Parameter(torch.zeros_like(b))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        w = self.w
        return dict(loss=w @ self.A @ w / 2 + self.b @ w)


class Scored(BaseModel):
    """A classifier, with a head that is called as mmpretrain's are."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.head = nn.Linear(8, 3)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.backbone(inputs.float()))
        labels = torch.cat([each.gt_label for each in data_samples])
        return dict(loss_cls=nn.functional.cross_entropy(scores, labels),
                    accuracy=torch.zeros(()))


def objective(model, size=16, parts=2):
    """The loss of a model on two batches."""
    return Objective(model, [batch(seed, size // parts)
                             for seed in range(parts)])


def dense_hessian(loss):
    """By torch.func, of a model without anything random."""
    params = {name: p.detach() for name, p in loss.params.items()}
    names, sizes = list(params), [p.numel() for p in params.values()]

    def of(flat):
        parts = flat.split(sizes)
        moved = {name: part.view_as(params[name])
                 for name, part in zip(names, parts)}
        return sum(loss.loss_of(moved, call) for call in loss.calls) / len(
            loss.calls)

    return torch.func.hessian(of)(torch.cat(
        [p.flatten() for p in params.values()]))


@pytest.mark.parametrize('norm', [False, True])
def test_eigenvalues_and_vectors_are_those_of_the_dense_hessian(norm):
    loss = objective(build(norm=norm, dropout=0.3))
    matrix = dense_hessian(loss)
    values, vectors = sharpness.eigenvalues(loss, 3, seed=0)
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:3].tolist()
    assert values == pytest.approx(expected, rel=1e-3)
    for value, vector in zip(values, vectors):
        assert list(vector) == list(loss.params)
        flat = torch.cat([part.flatten() for part in vector.values()])
        assert float(flat.norm()) == pytest.approx(1)
        torch.testing.assert_close(matrix @ flat, value * flat, atol=1e-2,
                                   rtol=0)


def test_the_trace_and_its_error_against_the_dense_hessian():
    loss = objective(build())
    matrix = dense_hessian(loss)
    # Of v' H v with signs v the mean is the trace, and this the variance.
    off = matrix - matrix.diag().diag()
    spread = float((2 * off.square().sum()).sqrt())
    trace, error = sharpness.estimate_trace(loss, 300, seed=0)
    assert error == pytest.approx(spread / 300**0.5, rel=0.15)
    assert abs(trace - float(matrix.trace())) < 3 * error
    assert error < 0.05 * trace
    assert sharpness.estimate_trace(loss, 20, seed=1) == \
        sharpness.estimate_trace(loss, 20, seed=1)


def test_products_are_those_of_the_dense_hessian():
    loss = objective(build())
    hessian, matrix = sharpness.make_hessian(loss), dense_hessian(loss)
    torch.manual_seed(0)
    columns = torch.randn(hessian.shape[0], 4).double()
    torch.testing.assert_close(hessian @ columns, matrix @ columns)
    # Exact where Hutchinson's estimator is: over all unit vectors.
    units = torch.eye(hessian.shape[0]).double()
    assert float((hessian @ units).trace()) == pytest.approx(
        float(matrix.trace()), rel=1e-9)


def test_a_parameter_outside_the_loss_has_zeros_in_the_hessian():
    model = build()
    model.unused = nn.Linear(2, 1).double()
    loss = objective(model)
    hessian = sharpness.make_hessian(loss)
    product = hessian @ torch.ones(hessian.shape[0]).double()
    assert product[-3:].tolist() == [0, 0, 0]
    assert sharpness.eigenvalues(loss, 1, 0)[0] == pytest.approx(
        sharpness.eigenvalues(objective(build()), 1, 0)[0], rel=1e-3)


def quadratic(seed=0, size=8, linear=1.):
    torch.manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(size, size).double())
    values = torch.linspace(-1, 4, size).double()
    b = linear * torch.randn(size).double()
    model = Quadratic(basis @ values.diag() @ basis.t(), b)
    return model, Objective(model, [batch(size=2)])


@pytest.mark.parametrize('rho', [0.05, 1.])
def test_the_maximum_in_a_ball_is_that_of_a_quadratic(rho):
    model, loss = quadratic()
    found = sharpness.ball_maximum(loss, rho, 60)
    # On the sphere (A - x) eps = -b, with x above all eigenvalues.
    values, basis = torch.linalg.eigh(model.A)
    turned = basis.t() @ model.b
    low, high = float(values.max()) + 1e-9, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        length = (turned / (middle - values)).norm()
        low, high = (middle, high) if length > rho else (low, middle)
    eps = basis @ (turned / (low - values))
    assert float(eps.norm()) == pytest.approx(rho)
    best = float(eps @ model.A @ eps / 2 + model.b @ eps)
    assert found['maximum'] == pytest.approx(best, rel=1e-3)
    step = rho * model.b / model.b.norm()
    assert found['one_step'] == pytest.approx(
        float(step @ model.A @ step / 2 + model.b @ step))
    assert found['maximum'] > found['one_step']


def test_a_ball_has_no_maximum_below_0_and_needs_a_gradient():
    _, flat = quadratic(linear=0.)
    assert sharpness.ball_maximum(flat, 0.1, 5) == dict(one_step=0,
                                                        maximum=0)
    model, loss = quadratic()
    model.A = -100 * torch.eye(8).double()
    found = sharpness.ball_maximum(loss, 5., 1)
    assert found['one_step'] < 0 == found['maximum']


def test_m_sharpness_is_the_mean_over_sub_batches():
    model, dataset = build(norm=True), Samples(size=12)
    samples = [dataset[i] for i in range(12)]
    parts = [Objective(model, [each])
             for each in batches_of(samples, 4, runner_collate)]
    assert len(parts) == 3
    found = sharpness.m_sharpness(parts, 0.1, 3)
    each = [sharpness.ball_maximum(part, 0.1, 3) for part in parts]
    assert found['maximum'] == pytest.approx(
        np.mean([one['maximum'] for one in each]))
    assert found['one_step'] == pytest.approx(
        np.mean([one['one_step'] for one in each]))
    # By hand: the first step of SAM on the first four samples.
    whole = batch(size=12)
    sub = {key: values[:4] for key, values in whole.items()}
    model.eval()
    params = list(model.parameters())
    before = sample_losses(model, sub).mean()
    grads = torch.autograd.grad(before, params)
    norm = torch.cat([grad.flatten() for grad in grads]).norm()
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for p, grad in zip(moved.parameters(), grads):
            p += 0.1 * grad / norm
        after = sample_losses(moved, sub).mean()
    assert each[0]['one_step'] == pytest.approx(
        float(after - before.detach()))


def runner_collate(parts):
    """As pseudo_collate."""
    return {key: [part[key] for part in parts] for key in parts[0]}


def test_nothing_of_the_model_changes():
    model = build(norm=True, dropout=0.5)
    loss = objective(model)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    sharpness.eigenvalues(loss, 2, 0)
    sharpness.estimate_trace(loss, 4, 0)
    sharpness.ball_maximum(loss, 0.5, 4)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loss_is_in_eval_mode_and_the_mean_over_batches():
    model = build(norm=True, dropout=0.5)
    loss = objective(model)
    model.eval()
    expected = torch.stack([sample_losses(model, batch(seed, 8)).mean()
                            for seed in (0, 1)]).mean()
    assert loss.loss() == pytest.approx(float(expected))
    value, gradient = loss.loss_and_gradient(loss.weights())
    grads = torch.autograd.grad(expected, list(model.parameters()))
    assert value == pytest.approx(float(expected))
    for one, other in zip(gradient.values(), grads):
        torch.testing.assert_close(one, other)


def labeled(seed=0, size=9):
    data_ = batch(seed, size)
    for i, sample in enumerate(data_['data_samples']):
        sample.gt_label = torch.tensor([i % 3])
    return data_


def test_the_accuracy_is_that_of_the_heads_scores():
    torch.manual_seed(0)
    model = Scored()
    loss = Objective(model, [labeled(0), labeled(1)])
    value, accuracy = loss.loss_and_accuracy()
    scores = torch.cat([model.head(model.backbone(labeled(seed)[
        'inputs'].float())) for seed in (0, 1)])
    labels = torch.arange(9).remainder(3).repeat(2)
    assert accuracy == pytest.approx(
        float((scores.argmax(1) == labels).double().mean()))
    assert value == pytest.approx(loss.loss())
    assert not model.head._forward_hooks
    assert objective(build()).loss_and_accuracy()[1] is None


def quantized():
    torch.manual_seed(0)
    model = build()
    quantize_model(model, w_bits=4, a_bits=4)
    model.train()
    model(**batch(), mode='loss')
    return model


def test_a_quantized_model_has_the_hessian_of_its_estimator():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = quantized()
    loss = objective(model)
    assert loss.params and not any('step' in name for name in loss.params)
    hessian = sharpness.make_hessian(loss)
    matrix = hessian @ torch.eye(hessian.shape[0]).double()
    # It is symmetric, as only a function's derivative is.
    torch.testing.assert_close(matrix, matrix.t())
    values, _ = sharpness.eigenvalues(loss, 2, 0)
    assert values == pytest.approx(
        torch.linalg.eigvalsh(matrix).flip(0)[:2].tolist(), rel=1e-3)


class Once(torch.autograd.Function):
    """Its backward pass has no derivative."""

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad


class OnceLoss(SquaredLoss):

    def forward(self, pred, target):
        return super().forward(Once.apply(pred), target)


def test_what_cannot_be_computed_is_refused(monkeypatch, tmp_path):
    model = build()
    model.loss_module = OnceLoss()
    loss = objective(model)
    with pytest.raises(ValueError, match='cannot be differentiated twice.*'
                       '--top 0 --trace-samples 0'):
        sharpness.eigenvalues(loss, 1, 0)
    assert sharpness.ball_maximum(loss, 0.1, 2)['maximum'] > 0
    with pytest.raises(ValueError, match='no fewer than the 8 parameters'):
        sharpness.eigenvalues(quadratic()[1], 8, 0)
    monkeypatch.setitem(sys.modules, 'curvlinops', None)
    with pytest.raises(ValueError, match='pip install curvlinops-for-'):
        sharpness.eigenvalues(objective(build()), 1, 0)
    broken = build()
    with torch.no_grad():
        broken.net[0].weight.fill_(float('nan'))
    with pytest.raises(ValueError, match='of x.pth is not finite'):
        objective(broken).check('x.pth')

    class Noisy(SquaredLoss):
        def forward(self, pred, target):
            return super().forward(pred, target) * torch.rand(())

    noisy = build()
    noisy.loss_module = Noisy()
    with pytest.raises(ValueError, match='changes from pass to pass'):
        objective(noisy).check('x.pth')
    for p in noisy.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match='no parameter that is trained'):
        objective(noisy)


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'SAM', 'AUSAM'])
def test_weights_of_any_training_are_loaded(wrapper, tmp_path):
    options = {} if wrapper == 'OptimWrapper' else dict(rho=0.1)
    trained = runner(tmp_path, dict(type=wrapper, **options), length=1)
    trained.train()
    model = build(seed=1, norm=True, dropout=0.1)
    with checkpoint_loading():
        load_weights(tmp_path / 'epoch_1.pth', model)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):

    def refused(match, content=None, name='other.pth'):
        if content is not None:
            torch.save(content, tmp_path / name)
        with checkpoint_loading(), pytest.raises(ValueError, match=match):
            load_weights(tmp_path / name, build())

    refused('There is no checkpoint', name='none.pth')
    refused('does not fit the model', dict(
        state_dict=build(norm=True).state_dict()))
    refused('does not fit the model', [1, 2])
    (tmp_path / 'cut.pth').write_bytes(b'PK\3\4 and no more')
    refused('truncated, or another kind', name='cut.pth')
    torch.save(build(seed=3).state_dict(), tmp_path / 'plain.pth')
    model = build()
    with checkpoint_loading():
        load_weights(tmp_path / 'plain.pth', model)
    assert torch.equal(model.net[0].weight, build(seed=3).net[0].weight)


def test_samples_are_the_same_for_the_same_seed():
    dataset = list(range(20))
    assert read_samples(dataset, 5, 0) == read_samples(dataset, 5, 0)
    assert read_samples(dataset, 5, 0) != read_samples(dataset, 5, 1)
    assert sorted(read_samples(dataset, 20, 0)) == dataset
    assert batches_of([1, 2, 3, 4, 5], 2, list) == [[1, 2], [3, 4]]


def test_names_are_given_for_as_many_checkpoints_in_a_row():
    files = [Path(f'{name}/epoch_1.pth') for name in 'abcd']
    assert weights.repeated_names(['x', 'y'], files) == ['x', 'x', 'y', 'y']
    assert weights.repeated_names(None, files)[0] == 'a/epoch_1'
    with pytest.raises(ValueError, match='3 --names do not suit 4'):
        weights.repeated_names(['x', 'y', 'z'], files)


def test_results_are_found_by_the_folder(tmp_path):
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs' / 'SAM-seed-0.json').write_text('{"value": 97.5}')
    file = tmp_path / 'SAM-seed-0' / 'epoch_1.pth'
    assert weights.read_results(tmp_path, [file]) == [97.5]
    with pytest.raises(ValueError, match='There is no result'):
        weights.read_results(tmp_path, [tmp_path / 'other' / 'epoch_1.pth'])


def figures(name, value, loss):
    return dict(checkpoint=f'{name}: {value}', name=name, value=value,
                loss=loss, one_step=1., maximum=2., eigenvalues=[loss, 1.])


def test_rank_correlations_over_all_and_within_a_name():
    found = sharpness_report.correlations([
        figures('a', 1., 9.), figures('a', 2., 8.), figures('a', 3., 7.),
        figures('b', 4., 19.), figures('b', 5., 18.), figures('b', 6., 17.)])
    assert found['loss']['within'] == pytest.approx(-1)
    assert found['loss']['all'] == pytest.approx(
        1 - 6 * (4 + 0 + 4 + 4 + 0 + 4) / 210)  # ranks 3 2 1 6 5 4
    assert found['maximum'] == dict(all=None, within=None)
    assert 'trace' not in found
    none = [dict(figures('a', 1., 9.), value=None)]
    assert sharpness_report.correlations(none) is None


def test_rho_is_that_of_the_config_unless_one_is_given():
    def rho(*options, **wrapper):
        return command.rho_of(command.parse_args(
            ['config.py', 'x.pth', *options]), Config(
                dict(optim_wrapper=wrapper)))

    assert rho() == 0.05
    assert rho(rho=0.3) == 0.3
    assert rho('--rho', '0.1', rho=0.3) == 0.1
    assert rho(rho=0) == 0.05
    for options in (('--rho', '0'), ('--trace-samples', '1'), ('--m', '-1')):
        with pytest.raises(SystemExit):
            rho(*options)


@pytest.mark.slow
def test_checkpoints_are_compared_by_the_tool(data, tmp_path):  # noqa: F811
    small = ('model.backbone.base_channels=4',
             'model.backbone.stem_channels=4', 'model.head.in_channels=32')
    files = [tmp_path / name for name in ('one.pth', 'two.pth')]
    cfg = Config.fromfile(PLAIN)
    merge(cfg, small)
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        with scope_of(cfg):
            torch.save(build_model(cfg).state_dict(), file)
    options = ('--cfg-options', *small)
    output = run(TOOL, 'sharpness', PLAIN, *files, '--names', 'plain',
                 'two passes', '--samples', 16, '--batch-size', 8, '--top', 2,
                 '--trace-samples', 4, '--steps', 3, '--m', 4, '--out',
                 tmp_path / 'out', *options, cwd=data)
    assert 'two passes' in output and 'eval mode' in ' '.join(output.split())
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert [one['name'] for one in summary['checkpoints']] == [
        'plain', 'two passes']
    for one in summary['checkpoints']:
        assert one['eigenvalues'][0] > one['eigenvalues'][1]
        assert one['m_sharpness']['maximum'] >= one['m_sharpness']['one_step']
        assert one['trace_error'] > 0
    for name in ('sharpness.png', 'summary.md'):
        assert (tmp_path / 'out' / name).stat().st_size > 500
    output = run(TOOL, 'sharpness', PLAIN, files[0], '--samples', 8, cwd=data,
                 ok=False)
    assert 'does not fit the model' in output and 'Traceback' not in output


@pytest.mark.slow
@pytest.mark.parametrize('head', ['heatmap', 'simcc'])
def test_poses_are_measured_by_the_tool(head, data, tmp_path):  # noqa: F811
    config = POSE / f'{head}_res18-c16_b64_figures-64x64.py'
    cfg = Config.fromfile(config)
    with scope_of(cfg):
        torch.save(build_model(cfg).state_dict(), tmp_path / 'any.pth')
    run(TOOL, 'sharpness', config, tmp_path / 'any.pth', '--samples', 4,
        '--batch-size', 2, '--top', 1, '--trace-samples', 2, '--steps', 2,
        '--m', 2, '--out', tmp_path / 'out', cwd=data)
    found, = json.loads((tmp_path / 'out' / 'summary.json').read_text())[
        'checkpoints']
    assert found['eigenvalues'][0] > 0 < found['trace_error']
    assert found['m_sharpness']['maximum'] >= found['m_sharpness']['one_step']
