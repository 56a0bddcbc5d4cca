"""Lines and planes against the losses of the checkpoints themselves."""

import copy
import json
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from ausam_mm.analysis import landscape, landscape_report
from ausam_mm.analysis.commands import landscape as command
from ausam_mm.analysis.objective import Objective
from ausam_mm.tooling.settings import build_model, scope_of

from ..tools.test_tools import PLAIN, ROOT, data, run  # noqa: F401
from ..toy import batch, build, sample_losses
from .test_sharpness import Scored, labeled, objective

TOOL = ROOT / 'tools' / 'analyze.py'


def moved(seed):
    """A model whose BatchNorm has statistics of its own."""
    model = build(seed=seed, norm=True).train()
    model(**batch(seed), mode='loss')
    return model


def test_a_line_passes_through_the_losses_of_its_ends():
    one, other = moved(0), moved(1)
    loss = objective(one)
    start, end = landscape.state_of(one), landscape.state_of(other)
    visits = []
    places = landscape.grid((-0.5, 1.5), 5, (0., 1.))
    found = landscape.walk(loss, start, end, places,
                           lambda: visits.append(0))
    assert places == [-0.5, 0., 0.5, 1., 1.5] and len(visits) == 5
    assert found['loss'][1] == pytest.approx(objective(one).loss(),
                                             rel=1e-12)
    assert found['loss'][3] == pytest.approx(objective(other).loss(),
                                             rel=1e-12)
    assert found['accuracy'] == [None] * 5
    middle = copy.deepcopy(one)
    middle.load_state_dict({
        name: (value + end[name]) / 2 if value.is_floating_point() else value
        for name, value in start.items()})
    assert found['loss'][2] == pytest.approx(objective(middle).loss())
    for name, value in one.state_dict().items():
        assert torch.equal(value, start[name]), name


def test_beyond_the_ends_statistics_stay_and_weights_go_on():
    start = dict(weight=torch.tensor([1.]), var=torch.tensor([2.]),
                 count=torch.tensor(3))
    end = dict(weight=torch.tensor([2.]), var=torch.tensor([1.]),
               count=torch.tensor(5))
    for t, weight, var in ((-1., 0., 2.), (0.5, 1.5, 1.5), (3., 4., 1.)):
        found = landscape.interpolate(start, end, t, ('var', 'count'))
        assert found == dict(weight=torch.tensor([weight]),
                             var=torch.tensor([var]), count=torch.tensor(3))


def test_filters_of_a_random_direction_are_as_long_as_the_weights():
    torch.manual_seed(0)
    params = dict(conv=torch.randn(4, 3, 2, 2), linear=torch.randn(5, 7),
                  bias=torch.randn(5))
    params['conv'][2] = 0
    direction = landscape.random_direction(params, 3)
    for name in ('conv', 'linear'):
        for own, filter_ in zip(direction[name], params[name]):
            assert float(own.norm()) == pytest.approx(float(filter_.norm()),
                                                      rel=1e-5)
    assert not direction['bias'].any()
    again = landscape.random_direction(params, 3)
    other = landscape.random_direction(params, 4)
    assert torch.equal(direction['conv'], again['conv'])
    cosine = torch.cosine_similarity(
        direction['linear'].flatten(), other['linear'].flatten(), dim=0)
    assert abs(float(cosine)) < 0.5


def test_a_plane_passes_through_its_center_and_changes_no_weight():
    model = moved(0)
    loss = objective(model)
    before = landscape.state_of(model)
    directions = tuple(landscape.random_direction(loss.weights(), seed)
                       for seed in (0, 1))
    places = landscape.grid((-1., 1.), 4, (0., ))
    assert len(places) == 5
    found = landscape.survey(loss, directions, places, lambda: None)
    assert found['loss'][2][2] == loss.loss()
    # At (x, y), by hand.
    with torch.no_grad():
        for name, p in model.named_parameters():
            p += places[4] * directions[0][name] + \
                places[1] * directions[1][name]
    model.eval()
    expected = np.mean([sample_losses(model, batch(seed, 8)).mean().item()
                        for seed in (0, 1)])
    assert found['loss'][1][4] == pytest.approx(expected)
    model.load_state_dict(before)
    assert found['loss'][2][2] == loss.loss()


def test_a_plane_leaves_the_model_as_it_was():
    model = moved(0)
    loss = objective(model)
    before = landscape.state_of(model)
    direction = landscape.random_direction(loss.weights(), 0)
    landscape.survey(loss, (direction, direction), [-1., 0.], lambda: None)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_classifiers_have_an_accuracy_and_overflow_is_infinite():
    torch.manual_seed(0)
    model = Scored()
    loss = Objective(model, [labeled()])
    state = landscape.state_of(model)
    broken = {name: torch.full_like(value, 3e38)
              for name, value in state.items()}
    found = landscape.walk(loss, state, broken, [0., 1.], lambda: None)
    assert found['loss'] == [loss.loss(), float('inf')]
    assert found['accuracy'] == [loss.loss_and_accuracy()[1], None]


def test_states_that_differ_in_a_whole_number_have_no_line():
    one = dict(sign=torch.tensor(1), num_batches_tracked=torch.tensor(3))
    other = dict(sign=torch.tensor(1), num_batches_tracked=torch.tensor(5))
    landscape.check_states([one, other], ['a', 'b'])
    other['sign'] = torch.tensor(0)
    with pytest.raises(ValueError, match='sign of b is not that of a'):
        landscape.check_states([one, other], ['a', 'b'])


def test_a_barrier_is_what_exceeds_the_line_between_the_ends():
    places = [-1., 0., 0.5, 1., 2.]
    assert landscape_report.barrier([9., 1., 5., 3., 9.], places) == 3
    assert landscape_report.barrier([9., 1., 1., 3., 9.], places) == 0


def test_bad_options_are_refused(monkeypatch):
    for options, match in (
            (['a.pth'], 'A line has two ends'),
            (['a.pth', 'b.pth', '--range', '1', '0'], 'is empty'),
            (['a.pth'] * 13 + ['--kind', 'plane'], 'name 12 at most')):
        with pytest.raises(ValueError, match=match):
            command.parse_args(['config.py', *options])
    monkeypatch.setitem(sys.modules, 'plotly.graph_objects', None)
    with pytest.raises(ValueError, match='pip install plotly'):
        landscape_report.check_plotly()


def result_of(kind):
    """Something to draw."""
    if kind == 'line':
        found = dict(name='a to b', loss=[3., 1., 2., float('inf')],
                     accuracy=[0.1, 0.5, 0.4, None])
        places = [-1., 0., 1., 2.]
    else:
        found = dict(name='a', loss=[[3., 2.], [float('inf'), 1.]],
                     accuracy=[[0.1, 0.2], [None, 0.5]])
        places = [-1., 0.]
    settings = dict(kind=kind, samples=4, batch_size=2, note='',
                    directions='random')
    return dict(settings=settings, places=places, landscapes=[found] * 2)


@pytest.mark.parametrize('kind', ['line', 'plane'])
def test_pages_and_pictures_are_written(kind, tmp_path):
    result = result_of(kind)
    landscape_report.plot(result, tmp_path / 'a.png')
    landscape_report.write_page(result, tmp_path / 'a.html')
    assert (tmp_path / 'a.png').stat().st_size > 5000
    page = (tmp_path / 'a.html').read_text()
    # The library is in it, once, and nothing is loaded from elsewhere.
    assert page.count('plotly.js v') == 1
    assert '<script src=' not in page
    (_, rows, _), = landscape_report.tables(result)
    assert len(rows) == 2


@pytest.mark.slow
def test_lines_and_planes_are_drawn_by_the_tool(data, tmp_path):  # noqa: F811
    cfg = Config.fromfile(PLAIN)
    cfg.model.backbone.update(base_channels=4, stem_channels=4)
    cfg.model.head.in_channels = 32
    cfg.dump(tmp_path / 'small.py')
    files = [tmp_path / name for name in ('one.pth', 'two.pth')]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        with scope_of(cfg):
            torch.save(build_model(cfg).state_dict(), file)
    common = ('--samples', 16, '--batch-size', 8, '--steps', 3)
    out = tmp_path / 'line'
    output = run(TOOL, 'landscape', tmp_path / 'small.py', *files, *common,
                 '--out', out, cwd=data)
    assert 'one to two' in output and 'interpolated' in output
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['places'] == [-0.25, 0., 0.5, 1., 1.25]
    line, = summary['landscapes']
    losses = line['loss'][1], line['loss'][3]
    out = tmp_path / 'plane'
    output = run(TOOL, 'landscape', tmp_path / 'small.py', *files, *common,
                 '--kind', 'plane', '--directions', 'eigen', '--range', -1,
                 1, '--out', out, cwd=data)
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['places'] == [-1., 0., 1.]
    for plane, loss in zip(summary['landscapes'], losses):
        assert plane['loss'][1][1] == pytest.approx(loss, rel=1e-5)
        assert plane['eigenvalues'][0] >= plane['eigenvalues'][1]
    for name in ('landscape.png', 'landscape.html', 'summary.md'):
        assert (out / name).stat().st_size > 300
    output = run(TOOL, 'landscape', tmp_path / 'small.py', files[0], cwd=data,
                 ok=False)
    assert 'A line has two ends' in output and 'Traceback' not in output
