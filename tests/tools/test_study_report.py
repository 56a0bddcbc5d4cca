"""Reports of studies: what is computed of results, and what is shown."""

import json
import math

import pytest
from matplotlib.axes import Axes
from PIL import Image

from ausam_mm.tooling.study_report import (
    difference,
    draw_cost,
    markdown,
    print_report,
    summarize_study,
    time_ratio,
    write_report,
)

from .test_study import fill, write


def test_an_interval_is_students(tmp_path):
    first = {0: 51., 1: 54., 2: 50., 3: 57., 4: 53.}
    second = {0: 50., 1: 50., 2: 50., 3: 50., 9: 90.}
    found = difference(*({seed: dict(value=value) for seed, value in
                          values.items()} for values in (first, second)), 2)
    # Twice 1, 4, 0 and 7: mean 6, and t of 3 degrees of freedom is 3.182.
    deviation = math.sqrt(((2 - 6)**2 + (8 - 6)**2 + 6**2 + (14 - 6)**2) / 3)
    half = 3.182446 * deviation / 2
    assert found['mean'] == 6 and found['seeds'] == 4
    assert found['interval'] == pytest.approx([6 - half, 6 + half])
    one = difference({0: dict(value=1.)}, {0: dict(value=3.)}, 1)
    assert one == dict(mean=-2, interval=None, seeds=1)
    assert difference({0: dict(value=1.)}, {1: dict(value=3.)}, 1) is None


def test_speeds_of_other_machines_are_not_compared():
    def result(seconds, machine='a', jobs=1):
        return dict(seconds=seconds, machine=machine, jobs=jobs)

    sam = {0: result(20), 1: result(30), 2: result(20), 3: result(20)}
    assert time_ratio(sam, {0: result(10), 1: result(10)}) == 2.5
    assert time_ratio(sam, {0: result(10), 2: result(1, 'b'),
                            3: result(1, jobs=2)}) == 2
    assert time_ratio(sam, {2: result(1, 'b')}) is None


def test_a_report_has_a_table_for_each_case_and_what_decides(tmp_path):
    study = write(tmp_path, cases=(
        'seeds', "cases = {'easy': {}, 'hard': {}}\n"
        "reading = 'It helps.'\nseeds"), pairs=(
            "('SAM', 'SGD')]", "('SAM', 'SGD'), ('SGD', 'SAM')]"))
    fill(study, {('easy', 'SGD', 0): 50., ('easy', 'SGD', 1): 52.,
                 ('hard', 'SGD', 0): 20.})
    fill(study, {('easy', 'SAM', 0): 53., ('easy', 'SAM', 1): 56.},
         sgd_steps=200, seconds=30, curve=[
             dict(step=step, sgd_steps=step, seconds=step, value=value)
             for step, value in ((1, 70.), (2, 54.))])
    summary = summarize_study(study)
    text = markdown(study, summary, 'COMMAND', 'x/figure.png')
    # 3 and 4: mean 3.5, and t of one degree of freedom is 12.706.
    assert ('| SAM | 54.50 | +3.50 [-2.85, +9.85] | 70.00 | 2 | 200 | 30 | '
            '2.00 (3.00) | 27 | 1.00 |' in text)
    assert '| 51.00 |  | 51.00 | 2 | 100 | 10 | 1.00 (1.00) | 80 | 3.00 |' \
        in text
    assert '**Decides:** SAM minus SGD +3.50 [-2.85, +9.85] over 2 seeds; ' \
        'SGD minus SAM -3.50 [-9.85, +2.85] over 2 seeds.' in text
    assert 'SAM and SGD share no finished seed yet; SGD' in text
    assert '5 of 8 runs are finished.' in text and 'It helps.' in text
    assert text.startswith('Does it help?\n\n```bash\nCOMMAND\n```\n\n**easy: '
                           'accuracy/top1, differences to SGD**')
    assert '](x/figure.png)' in text and 'a machine, 1 side by side' in text
    write_report(study)
    saved = json.loads((study.results / 'summary.json').read_text())
    assert saved['cases'][0]['decides'][0]['mean'] == 3.5
    assert '**hard: ' in (study.results / 'table.md').read_text()
    for name in ('figure.png', 'cost.png'):
        assert (study.results / name).read_bytes().startswith(b'\x89PNG')


def test_a_figure_is_as_high_as_what_is_finished(tmp_path):
    many = ', '.join(f"'SAM {n}': {{}}" for n in range(12))
    study = write(tmp_path, settings=("'SAM':", many + ", 'SAM':"))
    heights = []
    for count in (2, 11):
        fill(study, {('', f'SAM {n}', 0): 50. for n in range(count)})
        write_report(study)
        with Image.open(study.results / 'figure.png') as picture:
            heights.append(picture.height)
    assert heights[0] < 0.7 * heights[1]


def test_cost_is_of_samples_where_batches_differ(tmp_path):
    study = write(tmp_path, small=(
        "'SAM': dict(", "'SAM': dict(train_dataloader=dict(batch_size=2), "))
    sizes = [study.config_of(run).train_dataloader.batch_size
             for run in study.runs() if run.seed == 0]
    fill(study, {('', 'SGD', 0): 50., ('', 'SAM', 0): 50.})
    rows = summarize_study(study)['cases'][0]['rows']
    assert [row['cost'] for row in rows] == [1, sizes[1] / sizes[0]]
    assert sizes[0] > sizes[1] == 2


@pytest.mark.parametrize('number', [3, 24])
def test_only_settings_of_about_one_cost_stand_side_by_side(
        tmp_path, monkeypatch, number):
    costs = {'SGD': 1., 'SAM': 3.} | {
        f'rho={i}': 1 + i // 2 * 0.04 for i in range(1, number)}
    row = dict(mean=90., interval=None)
    placed = {}
    draw = Axes.errorbar

    def errorbar(self, x, y, label, **options):
        placed[label] = x
        return draw(self, x, y, label=label, **options)

    monkeypatch.setattr(Axes, 'errorbar', errorbar)
    study = write(tmp_path, settings=("'SGD': {}", ', '.join(
        f'{name!r}: {{}}' for name in costs if name != 'SAM')))
    study.results.mkdir(parents=True)
    draw_cost(study, dict(cases=[dict(case='', rows=[
        dict(row, setting=name, cost=cost)
        for name, cost in costs.items()])]))
    assert placed['SAM'] == 3
    assert len(set(placed.values())) == number + 1
    assert all(abs(placed[name] - costs[name]) <= 0.15 for name in costs)


def test_a_narrow_terminal_shows_settings_and_their_cost(
        tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '80')
    study = write(tmp_path)
    fill(study, {('', 'SGD', 0): 50., ('', 'SAM', 0): 51.})
    print_report(study, legend=False)
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith('SAM'))
    assert row.split() == ['SAM', '51.00', '+1.00', '51.00', '10', '1.00',
                           '(1.00)', '1.00']
    assert 'images/s' not in out and 'Means over seeds' not in out
