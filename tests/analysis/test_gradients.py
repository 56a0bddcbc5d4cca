"""Gradients of samples and selections, against autograd and by hand."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from scipy.stats import rankdata

from ausam_mm import checkpoint_loading
from ausam_mm.analysis import gradients, gradients_report, selections

from ..runs import runner
from ..tools.test_tools import PLAIN, ROOT, data, run  # noqa: F401
from ..toy import batch, build, sample_losses

TOOL = ROOT / 'tools' / 'analyze.py'
WRAPPER = dict(type='AUSAM', rho=0.3, warmup_epochs=1, ramp_epochs=0)
CONFIG = Config(dict(optim_wrapper=dict(
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9), **WRAPPER)))


def samples_of(batch_):
    size = len(batch_['inputs'])
    keys = torch.tensor([each.sample_idx for each in batch_['data_samples']])
    return gradients.Batch(batch_, torch.arange(size), keys, None)


@pytest.fixture(autouse=True)
def loading():
    """As the tool loads checkpoints."""
    with checkpoint_loading():
        yield


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A checkpoint of a model with BatchNorm and dropout."""
    folder = tmp_path_factory.mktemp('training')
    runner(folder, WRAPPER, length=3,
           model=build(norm=True, dropout=0.3)).train()
    return folder / 'epoch_3.pth'


def look_at(path):
    """The model of a checkpoint, and a look at ten samples."""
    model = build(norm=True, dropout=0.3)
    method = gradients.load_checkpoint(path, CONFIG, model)
    return model, gradients.look(method, model.train(),
                                 samples_of(batch(size=10)))


def flat(tensors):
    return torch.cat([each.flatten() for each in tensors])


def test_norms_and_products_are_those_of_autograd(trained):
    model, found = look_at(trained)
    model.eval()
    losses = sample_losses(model, batch(size=10))
    params = list(model.parameters())
    rows = torch.stack([flat(torch.autograd.grad(
        loss, params, retain_graph=True)) for loss in losses])
    torch.testing.assert_close(found.losses, losses.detach())
    torch.testing.assert_close(found.norms, rows.norm(dim=1))
    torch.testing.assert_close(found.products, rows @ rows.t(), rtol=1e-5,
                               atol=1e-5)


def test_dlp_is_the_difference_along_the_gradient_of_the_batch(trained):
    model, found = look_at(trained)
    model.eval()
    rho = torch.load(trained, weights_only=False)['optimizer'][
        'param_groups'][0]['rho']
    assert rho != 0.3  # it is scheduled
    params = list(model.parameters())
    before = sample_losses(model, batch(size=10))
    grads = torch.autograd.grad(before.mean(), params)
    with torch.no_grad():
        for p, grad in zip(params, grads):
            p += rho * grad / flat(grads).norm()
        after = sample_losses(model, batch(size=10))
    torch.testing.assert_close(found.dlp, (after - before.detach()).abs(),
                               rtol=1e-4, atol=1e-5)


def test_a_look_changes_nothing_and_adlp_is_of_the_table(trained):
    model, found = look_at(trained)
    saved = torch.load(trained, weights_only=False)
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved['state_dict'][name]), name
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    table = saved['optimizer']['ausam_mm']['history']
    means = dict(zip(table['keys'].tolist(), table['means'].tolist()))
    assert found.adlp.tolist() == [means[key] for key in range(10)]


def test_rank_correlation_by_hand():
    ones = torch.tensor([1., 2., 3., 4., float('nan')])
    others = torch.tensor([10., 30., 20., 40., 0.])
    # Ranks differ by 0, 1, 1, 0: 1 - 6 * 2 / (4 * 15).
    assert gradients.rank_correlation(ones, others) == pytest.approx(0.8)
    assert gradients.rank_correlation(ones, -ones) == pytest.approx(-1)
    assert gradients.rank_correlation(ones, torch.ones(5)) is None
    assert gradients.rank_correlation(ones[3:], others[3:]) is None
    ties = torch.tensor([1., 1., 2., 3.])
    assert gradients.rank_correlation(ties, others[:4]) == pytest.approx(
        np.corrcoef(rankdata(ties), rankdata(others[:4]))[0, 1])


def test_bias_and_variance_against_the_gradients_themselves():
    rows = torch.tensor([[1., 0.], [0., 2.], [3., 1.]]).double()
    weights = torch.tensor([[0.5, 0.5, 0.], [0., 0.2, 0.6], [1., 0., 0.],
                            [0.5, 0., 0.5]]).double()
    full, sampled = rows.mean(0), weights @ rows
    mean, square = sampled.mean(0), full.square().sum()
    variance = (sampled - mean).square().sum() / 3 / square
    found = selections.compare_selections(
        gradients.scalar_products(rows.float()), weights)
    assert found == pytest.approx(dict(
        bias=float((mean - full).norm() / full.norm()),
        chance=float((variance / 4).sqrt()), variance=float(variance),
        cosine=float(torch.cosine_similarity(
            sampled, full[None]).mean())))


def test_products_of_long_rows_are_summed_over_parts():
    rows = torch.randn(3, gradients._CHUNK + 5)
    torch.testing.assert_close(gradients.scalar_products(rows),
                               rows.double() @ rows.double().t())


@pytest.mark.parametrize('way', selections.WAYS)
def test_each_way_selects_as_ausam_does(way):
    scores = torch.linspace(1, 3, 20).double()
    method = selections.selector(way, 0.5, 0.1, 0.5, seed=3)
    weights = selections.selection_weights(method, scores, range(400))
    assert torch.equal(weights, selections.selection_weights(
        method, scores, range(400)))
    assert (weights > 0).sum(1).eq(10).all()
    often = (weights > 0).double().mean(0)
    low, high = often[:5].mean(), often[-5:].mean()
    if way == 'uniform':
        assert abs(high - low) < 0.1
    elif way == 'ADLP, low first':
        assert low > high + 0.2
    elif way == 'highest loss':
        assert (low, high) == (0, 1)
    else:
        assert high > low + 0.2
    if 'weighted' in way:  # the mean of what is selected is the batch's
        torch.testing.assert_close((weights @ scores).mean(), scores.mean(),
                                   rtol=0.02, atol=0)
    else:
        assert weights[weights > 0].eq(0.1).all()


def test_weighted_selections_have_no_bias_and_the_highest_have():
    torch.manual_seed(0)
    rows = torch.randn(40, 200) + torch.linspace(0.2, 2, 40)[:, None]
    products = gradients.scalar_products(rows)
    found = {}
    for way in selections.WAYS:
        weights = selections.selection_weights(
            selections.selector(way, 0.5, 0.1, 0.5, seed=0),
            rows.norm(dim=1), range(1000))
        found[way] = selections.compare_selections(products, weights)
    for way, values in found.items():
        unbiased = 'weighted' in way or way == 'uniform'
        assert (values['bias'] < 2 * values['chance']) == unbiased, way
    assert found['highest loss']['variance'] < 1e-12


def test_samples_are_the_same_for_the_same_seed():
    dataset = [dict(inputs=torch.full((6, ), float(i)),
                    data_samples=batch(size=10)['data_samples'][i])
               for i in range(10)]

    def load(samples, seed=0):
        return gradients.load_batches(
            dataset, lambda parts: {key: [part[key] for part in parts]
                                    for key in parts[0]}, samples, 4, seed)

    first, second = load(10), load(10)
    assert [len(each) for each in first] == [4, 4]  # 2 are left out
    for one, other in zip(first, second):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.indices, one.keys)
        assert one.wrong is None
    assert not torch.equal(first[0].indices, load(10, seed=1)[0].indices)
    assert [len(each) for each in load(3)] == [3]
    with pytest.raises(ValueError, match='take more samples'):
        load(1)


def test_samples_without_identity_are_known_by_their_numbers():
    dataset = [dict(inputs=torch.zeros(6), data_samples=None)] * 10
    loaded, = gradients.load_batches(
        dataset, lambda parts: dict(inputs=[part['inputs'] for part in parts]),
        6, 6, seed=0, numbered=True)
    assert torch.equal(loaded.keys, loaded.indices)


def test_what_cannot_be_looked_at_is_refused(trained, tmp_path, monkeypatch):
    model = build(norm=True, dropout=0.3)
    content = torch.load(trained, weights_only=False)

    def refused(match, cfg=CONFIG, model=model, **changes):
        torch.save(dict(content, **changes), tmp_path / 'other.pth')
        with pytest.raises(ValueError, match=match):
            gradients.load_checkpoint(tmp_path / 'other.pth', cfg, model)

    with pytest.raises(ValueError, match='There is no checkpoint'):
        gradients.load_checkpoint(tmp_path / 'none.pth', CONFIG, model)
    no_state = dict(content['optimizer'])
    del no_state['ausam_mm']
    refused('has no ADLP table', optimizer=no_state)
    refused('has no ADLP table', optimizer={})
    refused('does not fit the model', model=build())
    optimizer = CONFIG.optim_wrapper.optimizer
    for options, match in (
            (dict(type='SAM'), 'trains with SAM, which'),
            (dict(type='AUSAM', scores='uniform'), "AUSAM.scores='uniform'")):
        refused(match, cfg=Config(dict(
            optim_wrapper=dict(options, optimizer=optimizer))))
    method = gradients.load_checkpoint(trained, CONFIG, model)
    strangers = samples_of(batch(size=8, first_index=100))
    with pytest.raises(ValueError, match='knows none of the samples'):
        gradients.analyze(method, model, [strangers], [0.5], 2, 0)
    broken = batch(size=8)
    broken['inputs'][3] = float('nan')
    with pytest.raises(ValueError, match='1 of 8 samples'):
        gradients.look(method, model.train(), samples_of(broken))
    monkeypatch.setattr(gradients, 'LIMIT', 5000)
    with pytest.raises(ValueError, match='take a smaller batch size'):
        gradients.look(method, model, samples_of(batch(size=8)))


def test_a_bias_that_chance_makes_is_in_brackets():
    row = dict(way='ADLP', ratio=0.5, bias=0.2, chance=0.15, variance=1.,
               cosine=0.5)
    assert gradients_report._cells('ADLP', [row])['bias\n0.5'] == '(0.20)'
    clear = dict(row, bias=0.3, wrong=0.42)
    cells = gradients_report._cells('ADLP', [clear])
    assert (cells['bias\n0.5'], cells['wrong\n0.5']) == ('0.30', '42')


@pytest.mark.slow
def test_a_training_is_analyzed_by_the_tool(data, tmp_path):  # noqa: F811
    cfg = Config.fromfile(PLAIN)
    cfg.train_dataloader.dataset = dict(
        type='LabelNoise', ratio=0.4, dataset=cfg.train_dataloader.dataset)
    cfg.dump(tmp_path / 'noisy.py')
    work_dir = tmp_path / 'training'
    run(ROOT / 'tools' / 'train.py', tmp_path / 'noisy.py',
        '--optim-wrapper', 'AUSAM', '--work-dir', work_dir, '--cfg-options',
        'train_cfg.max_epochs=2', 'optim_wrapper.ramp_epochs=1',
        'train_dataloader.dataset.dataset.indices=64', cwd=data)
    checkpoint = work_dir / 'epoch_2.pth'
    options = ('--samples', 16, '--batch-size', 8, '--selections', 10)
    output = run(TOOL, 'gradients', work_dir / 'noisy.py', checkpoint,
                 '--out', tmp_path / 'out', *options, cwd=data)
    assert 'Rank correlation' in output and 'norm, weighted' in output
    assert 'BatchNorm in eval mode' in ' '.join(output.split())
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    found, = summary['checkpoints']
    assert found['checkpoint'] == 'epoch_2' and found['known'] == 16
    assert len(found['selections']) == 3 * len(selections.WAYS)
    assert all(0 <= row['wrong'] <= 1 for row in found['selections'])
    samples = json.loads((tmp_path / 'out' / 'samples.json').read_text())
    assert sum(samples['wrong']) / 16 == summary['wrong'] > 0
    assert len(samples['checkpoints'][0]['adlp']) == 16
    for name in ('scatter.png', 'selections.png', 'summary.md'):
        assert (tmp_path / 'out' / name).stat().st_size > 500
    content = torch.load(checkpoint, weights_only=False)
    del content['optimizer']
    torch.save(content, tmp_path / 'published.pth')
    output = run(TOOL, 'gradients', work_dir / 'noisy.py',
                 tmp_path / 'published.pth', *options, cwd=data, ok=False)
    assert 'has no ADLP table' in output and 'Traceback' not in output
