"""Reports: what is read and computed."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from PIL import Image

from ausam_mm.report import analyses, configs, curves, notes, page, pictures
from ausam_mm.report import of_trainings as comparing
from ausam_mm.report.command import compare, write_page
from ausam_mm.report.runs import find_trainings, read_training
from ausam_mm.report.theory import theory_of
from ausam_mm.tooling.reports import write_summary
from ausam_mm.tooling.study_report import interval
from tools import demo
from tools import report as tool

from ..runs import Samples, Stop, runner
from ..toy import ToyModel
from .test_study import fill, write

AUSAM = dict(type='AUSAM', rho=0.1, alpha=(0.25, 0.75), warmup_epochs=1)
HEADER = """2026/01/02 03:04:05 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    PyTorch: 2.9
    PyTorch compiling details: PyTorch built with:
  - GCC: 13.3

Runtime environment:
    seed: {seed}
    GPU number: 1
------------------------------------------------------------

"""


class Predicting(ToyModel):
    """The small model with a validation."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode != 'predict':
            return super().forward(inputs, data_samples, mode)
        loss = super().forward(inputs, data_samples, 'loss')['loss']
        return [dict(loss=float(loss))] * len(inputs)


class Score(BaseMetric):
    """A metric in percent."""

    def process(self, data_batch, data_samples):
        self.results += [sample['loss'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(score=100 * float(np.exp(-np.mean(results) / 5)))


def train(folder, wrapper, seed, stop=None, resume=False, length=3):
    """A real training of the small model: 3 iterations an epoch."""
    cfg = dict(optim_wrapper=dict(wrapper, optimizer=dict(type='SGD', lr=.02)),
               train_cfg=dict(by_epoch=True, max_epochs=length),
               train_dataloader=dict(batch_size=8),
               default_hooks=dict(logger=dict(interval=1)),
               randomness=dict(seed=seed))
    torch.manual_seed(seed)
    training = runner(
        folder, wrapper, length=length, seed=seed,
        model=Predicting(norm=True).double(), cfg=Config(cfg), resume=resume,
        val_cfg=dict(), val_evaluator=[Score()],
        val_dataloader=dict(
            batch_size=8, num_workers=0, dataset=Samples(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate')))
    if stop:
        training.register_hook(Stop(stop))
        with pytest.raises(KeyboardInterrupt):
            training.train()
    else:
        training.train()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Two settings with two seeds each, one resumed, and a killed one."""
    folder = tmp_path_factory.mktemp('trained')
    for name, wrapper in (('SGD', dict(type='OptimWrapper')),
                          ('AUSAM', AUSAM)):
        for seed in (0, 1):
            train(folder / f'{name}-seed-{seed}', wrapper, seed)
    killed = folder / 'SAM-seed-0'
    train(killed, dict(type='SAM', rho=0.1), 0, stop=4)
    shutil.copytree(killed, folder / 'SAM-seed-1')
    # MMEngine names it by the second, which may be that of the resume.
    next((folder / 'SAM-seed-1').glob('2*[0-9]')).rename(
        folder / 'SAM-seed-1' / '20260102_030405')
    train(folder / 'SAM-seed-1', dict(type='SAM', rho=0.1), 0, resume=True)
    return folder


def made_up(folder, wrapper=None, seed=0, values=(40., 50., 60.), log='',
            steps=(), config='', time='20260102_030405', **scalars):
    """A training's folder as MMEngine writes it: 4 iterations an epoch."""
    place = folder / time
    (place / 'vis_data').mkdir(parents=True)
    cfg = Config(dict(
        optim_wrapper=wrapper or dict(type='OptimWrapper'),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        train_dataloader=dict(batch_size=8), randomness=dict(seed=seed)))
    cfg.dump(place / 'vis_data' / 'config.py')
    lines = []
    for epoch, value in enumerate(values, 1):
        for i in range(4 * epoch - 3, 4 * epoch + 1):
            lines.append(dict(loss=1 / i, time=0.5, epoch=epoch, iter=i,
                              step=i, **scalars))
        lines.append(dict(score=value, time=0.1, step=epoch))
    lines += steps
    (place / 'vis_data' / 'scalars.json').write_text(
        '\n'.join(map(json.dumps, lines)))
    (place / f'{time}.log').write_text(HEADER.format(seed=seed) + log)
    return folder


def analyzed(folder, size=(40, 30), number=1):
    """What analyze.py writes into a folder."""
    write_summary(folder, [('Scores of *samples*', [
        {'sample': 'a | b', 'score\nmean': '<1>'}], 'How to read it.')], [
            'python', 'tools/analyze.py', 'scores', 'x.py'])
    rng = np.random.default_rng(0)
    for i in range(number):
        Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), 'uint8')).save(
            folder / f'all_suspects{i}.png')
    return folder


def rows_of(comparison):
    return {row['setting']: row for row in comparison.cases[0].rows}


# -- what is read and computed --


def test_real_trainings_are_settings_with_seeds(trained):
    comparison, = compare([trained])
    assert list(comparison.settings) == ['AUSAM', 'SAM-seed-0', 'SAM-seed-1',
                                         'SGD']
    assert comparison.baseline == 'SGD' and comparison.metric == 'score'
    rows = rows_of(comparison)
    values = {}
    for seed in (0, 1):
        for name in ('AUSAM', 'SGD'):
            lines = [json.loads(line) for line in next((
                trained / f'{name}-seed-{seed}').glob(
                    '*/vis_data/scalars.json')).read_text().splitlines()]
            values[name, seed] = lines[-1]['score']
    assert rows['AUSAM']['values'] == {0: values['AUSAM', 0],
                                       1: values['AUSAM', 1]}
    difference = [values['AUSAM', seed] - values['SGD', seed]
                  for seed in (0, 1)]
    assert rows['AUSAM']['difference']['interval'] == interval(difference)
    assert rows['SGD']['difference'] is None


def test_cost_is_counted_and_foretold(trained):
    comparison, = compare([trained])
    costs = {cost.setting: cost for cost in comparison.cases[0].costs}
    # Two epochs of three at 1 after a warm-up at 2.
    assert costs['AUSAM'].theory.step == 1
    assert costs['AUSAM'].theory.training == pytest.approx(4 / 3)
    assert costs['AUSAM'].counted == pytest.approx(4 / 3, abs=0.05)
    assert costs['SAM-seed-1'].counted == costs['SAM-seed-1'].theory.step == 2
    assert costs['SGD'].counted == costs['SGD'].theory.training == 1
    assert costs['SGD'].sgd_steps == 9 and costs['SGD'].seconds > 0


def test_a_killed_training_is_shown_and_said_to_be_unfinished(trained):
    comparison, = compare([trained / 'SAM-seed-0'])
    killed, = comparison.cases[0].rows
    assert killed['setting'] == 'SAM, epoch 1.3 of 3'
    assert not killed['finished'] and killed['difference'] is None
    lines = comparison.cases[0].curves
    assert not lines['loss'][0].finished
    assert [point['epochs'] for point in lines['loss'][0].points] == [
        pytest.approx(i / 3) for i in range(1, 5)]
    assert comparison.notes == [(
        'SAM-seed-0', 'It is not finished: epoch 1.3 of 3. What is shown of '
        'it is what it wrote until then.')]


def test_a_resumed_training_says_so_and_counts_once(trained):
    training = read_training(trained / 'SAM-seed-1')
    assert training.finished
    assert [record['step'] for record in training.steps] == list(range(1, 10))
    assert notes.notes_of(training) == [
        'It was resumed once: from epoch 1, iteration 3.']
    assert training.result('score')['sgd_steps'] == 18


def test_an_axis_counts_what_was_done_between_lines(tmp_path):
    # As with the interval of MMEngine's LoggerHook: 10.
    made_up(tmp_path / 'run', values=(), steps=[
        dict(loss=2., time=0.5, epoch=1, step=10),
        dict(loss=1., time=0.2, epoch=2, step=20)])
    training = read_training(tmp_path / 'run')
    assert [point['seconds'] for point in training.curve('loss')] == [5, 7]
    assert [point['samples'] for point in training.curve('loss')] == [80, 160]
    assert [point['epochs'] for point in training.curve('loss')] == [1, 2]


def test_settings_that_differ_come_first_and_seeds_do_not_count():
    one = configs.flatten(dict(
        model=dict(depth=18), randomness=dict(seed=0),
        optim_wrapper=dict(alpha=(0.25, 0.75), optimizer=dict(lr=0.1))))
    other = configs.flatten(dict(
        model=dict(depth=34), randomness=dict(seed=1),
        optim_wrapper=dict(optimizer=dict(lr=0.1))))
    assert one['optim_wrapper.alpha'] == '(0.25, 0.75)'
    assert configs.split([configs.of_setting(one), configs.of_setting(other)
                          ]) == (['optim_wrapper.alpha', 'model.depth'],
                                 ['optim_wrapper.optimizer.lr'])


def test_a_seed_trained_twice_is_not_two_seeds(tmp_path):
    for name, seed in (('run-seed-0', 0), ('run-seed-1', 1), ('again', 0)):
        made_up(tmp_path / name, seed=seed)
    groups = comparing.group([read_training(folder) for folder in
                              sorted(tmp_path.iterdir())])
    assert {name: [training.seed for training in members]
            for name, members in groups.items()} == {
                'again': [0, 1], 'run': [0]}


def test_names_lose_what_all_begin_with():
    assert comparing._short([
        'images-20-AUSAM-0-5-seed-1', 'images-20-AUSAM-0-25-seed-1',
        'images-20-Adam-seed-1']) == ['AUSAM-0-5', 'AUSAM-0-25', 'Adam']
    assert comparing._short(['run', 'run-b']) == ['run', 'run-b']
    assert comparing._short(['SGD', 'SAM-seed-0', 'SAM-seed-1']) == [
        'SGD', 'SAM-seed-0', 'SAM-seed-1']
    assert comparing._short(['a/x-seed-0']) == ['a/x']


def test_trainings_without_a_common_seed_have_no_interval(tmp_path):
    made_up(tmp_path / 'a', seed=3)
    made_up(tmp_path / 'b', dict(type='SAM'), seed=4, values=(70., 62.5, 66.))
    comparison, = compare([tmp_path])
    table = page.accuracy_table(comparison, comparison.cases[0])
    assert [row['difference to a'] for row in table] == [
        'baseline', '+6.00 (other seeds)']
    comparison, = compare([tmp_path], baseline='b')
    assert comparison.baseline == 'b'


def test_the_cost_in_theory_is_the_sum_of_the_ratios():
    def cost(epochs=200, **wrapper):
        return theory_of(Config(dict(
            optim_wrapper=dict(wrapper, optimizer=dict(type='SGD', lr=0.1)),
            train_cfg=dict(max_epochs=epochs))))

    assert cost(type='AUSAM', alpha=(0.25, 0.5)).step == 0.75
    assert cost(type='AUSAM', alpha=0.5).training == 1.005
    assert cost(type='AUSAM', alpha=0.5, epochs=2).training == 1.5
    assert cost(type='AUSAM', alpha=0.6, warmup_epochs=0).training == 1.2
    assert cost(type='AUSAM', alpha=1).training == 2
    assert cost(type='SAM', base=dict(type='AmpOptimWrapper')).step == 2
    assert cost(type='MSAM').step == cost(type='SplitSAM').step == 1
    looksam = cost(type='LookSAM')
    assert looksam.step is None and '1 + 1/k' in looksam.text
    assert cost().plain and cost(type='AmpOptimWrapper').training == 1
    assert cost(type='Unheard').step is None


def test_what_was_odd_is_said_in_plain_words(tmp_path):
    log = ('2026/01/02 03:04:06 - mmengine - WARNING - "x" is old.\n'
           '2026/01/02 03:04:06 - mmengine - WARNING - "x" is old.\n'
           '2026/01/02 03:04:07 - mmengine - INFO - resumed epoch: 2, iter: '
           '8\n')
    training = read_training(made_up(
        tmp_path / 'run', dict(type='AUSAM', alpha=0.5), log=log,
        values=(1., 2., 3.), **{
            'ausam/skipped_steps': 2, 'ausam/skipped_perturbations': 3,
            'ausam/ratio_used': 1.}))
    training.steps[4]['loss'] = float('nan')
    said = ' '.join(notes.notes_of(training))
    for words in ('resumed once: from epoch 2, iteration 8',
                  '2 of 12 steps were skipped',
                  '3 of 12 steps were steps of the base optimizer alone',
                  'not finite in one line of the log, first at iteration 5',
                  'lower warmup_epochs'):
        assert words in said
    assert notes.warnings_of([training]) == [('"x" is old.', '2 in run')]
    assert notes.environment_of([training]) == [
        ('sys.platform', 'linux'), ('PyTorch', '2.9'), ('GPU number', '1')]
    quiet = read_training(made_up(tmp_path / 'quiet'))
    assert notes.notes_of(quiet) == []


def test_a_curve_is_thinned_by_means_of_neighbours():
    points = [dict(step=i, value=float(i)) for i in range(1, 1001)]
    points[0]['value'] = float('inf')
    thinned = curves.thin(points)
    assert len(thinned) == curves.POINTS and thinned[-1]['step'] == 1000
    assert thinned[0]['value'] == pytest.approx(np.mean(range(2, 11)), abs=1)
    assert curves.thin(points[1:9]) == points[1:9]
    assert curves.mean_of([points[1:4], points[2:9]]) == points[2:4]


def test_a_study_needs_no_work_dirs(tmp_path):
    study = write(tmp_path)
    fill(study, {('', 'SGD', 0): 50., ('', 'SGD', 1): 52.,
                 ('', 'SAM', 0): 53.})
    fill(study, {('', 'SAM', 1): 56.}, samples_backpropagated=1600,
         sgd_steps=200)
    for path in (study.path, study.results):
        comparison, = compare([path])
        assert comparison.title == 'some' and comparison.unit == '%'
        assert 'Does it help?' in comparison.text
        assert rows_of(comparison)['SAM']['difference']['mean'] == 3.5
        assert comparison.trainings['SAM'] == 'seeds 0, 1'
        assert comparison.cases[0].curves['accuracy/top1'][0].points[-1][
            'samples'] == 800
        assert 'Of 4 trainings the folder is not here' in comparison.quiet
        assert comparison.settings['SAM']['optim_wrapper.rho'] == '0.1'


def test_the_folders_of_a_study_tell_of_warnings(tmp_path):
    study = write(tmp_path)
    fill(study, {('', 'SGD', 0): 50., ('', 'SAM', 0): 51.})
    for run in study.runs():
        if run.seed == 0:
            folder = made_up(tmp_path / 'work' / run.name, log='2026/01/02 '
                             '03:04:06 - mmengine - WARNING - Beware.\n')
            (folder / 'fingerprint').write_text(
                study.fingerprint(study.config_of(run))
                if run.setting == 'SAM' else 'of another config')
    comparison, = compare([study.path], work_dir=tmp_path / 'work')
    assert comparison.warnings == [('Beware.', '1 in SAM, seed 0')]
    assert 'Of 1 trainings' in comparison.quiet


def test_an_analysis_is_its_tables_and_pictures(tmp_path):
    found = analyses.read_analysis(analyzed(tmp_path / 'scores'))
    assert (found.title, found.command) == (
        'scores', 'python tools/analyze.py scores x.py')
    assert [block.kind for block in found.blocks][:3] == [
        'paragraph', 'table', 'paragraph']
    picture, = found.pictures
    assert picture.caption == 'all suspects0'
    assert picture.alt.endswith('Scores of *samples*')
    table, = analyses.parse('| a | b |\n| --- | --- |\n| x \\| y | **2** |')
    assert table.rows == [{'a': 'x | y', 'b': '**2**'}]
    summary = json.loads((tmp_path / 'scores/summary.json').read_text())
    (tmp_path / 'scores/summary.json').write_text(json.dumps(dict(
        summary, pictures={'all_suspects0.png': 'Digits to look at'})))
    found = analyses.read_analysis(tmp_path / 'scores')
    assert found.pictures[0].alt == 'Digits to look at'


def test_an_analysis_within_another_keeps_its_pictures(tmp_path):
    analyzed(analyzed(tmp_path / 'outer') / 'inner', number=2)
    folders = analyses.find_analyses(tmp_path)
    assert [len(analyses.read_analysis(folder).pictures)
            for folder in folders] == [1, 2]


def test_pictures_become_smaller_until_they_fit(tmp_path):
    analyzed(tmp_path, size=(900, 600))
    found = analyses.read_analysis(tmp_path).pictures
    assert pictures.embed(found, 10**7) == []
    assert found[0].uri.startswith('data:image/png;base64,')
    assert pictures.embed(found, 100_000) == []
    assert found[0].uri.startswith('data:image/webp;base64,')
    assert len(found[0].uri) <= 100_000
    small = pictures.Picture(found[0].path, '', '')
    assert pictures.embed([small], 300) == [small] and not small.uri


@pytest.mark.slow
def test_ten_trainings_with_galleries_fit_in_five_megabytes(tmp_path):
    for i in range(10):
        analyzed(made_up(tmp_path / f'run-{i}', seed=i,
                         wrapper=dict(type='SAM', rho=0.1 * i)) / 'gallery',
                 size=(800, 600))
    assert sum(path.stat().st_size for path in tmp_path.rglob('*.png')) > \
        2 * page.LIMIT
    write_page(compare([tmp_path]), [], tmp_path / 'page.html', 'COMMAND')
    text = (tmp_path / 'page.html').read_text()
    assert 3_000_000 < len(text.encode()) <= 5_000_000
    assert text.count('<img src="data:image/webp') == 10
    assert 'had no room' not in text


def test_pictures_without_room_are_named(tmp_path, monkeypatch):
    folder = analyzed(made_up(tmp_path / 'run') / 'gallery')
    text = page.render(compare([folder.parent]), [], '')
    empty = re.sub('data:image/[^"]*', '', text)
    assert len(empty) < len(text)
    monkeypatch.setattr(page, 'LIMIT', len(empty) + 400)
    short = page.render(compare([folder.parent]), [], '')
    assert '1 pictures had no room' in short
    assert 'all_suspects0.png' in short and '<img' not in short
    monkeypatch.setattr(page, 'LIMIT', 1000)
    with pytest.raises(ValueError, match='report fewer trainings at once'):
        page.render(compare([folder.parent]), [], '')


def test_text_of_others_cannot_break_the_page(tmp_path):
    evil = '</script><script>alert(1)</script>'
    folder = made_up(tmp_path / 'run', dict(type=evil), log='2026/01/02 '
                     f'03:04:06 - mmengine - WARNING - {evil}\n')
    made_up(tmp_path / '<b>other')
    text = page.render(compare([folder, tmp_path / '<b>other']), [], evil)
    assert '<script>alert' not in text and '<b>other' not in text
    assert text.count('</script>') == 3


@pytest.mark.parametrize('make,sentence', [
    (lambda folder: folder.mkdir(), 'is empty: name the work_dir'),
    (lambda folder: (folder / 'deeper').mkdir(parents=True),
     'is no training: MMEngine has written no log'),
    (lambda folder: None, 'There is no folder'),
    (lambda folder: made_up(folder, values=()), 'no line of training yet'),
    (lambda folder: next(made_up(folder).rglob('config.py')).unlink(),
     'has no config: MMEngine writes it'),
    (lambda folder: next(made_up(folder).rglob('config.py')).write_text('a ='),
     'cannot be read'),
    (lambda folder: (folder / 'runs' / 'x.json').mkdir(parents=True),
     'are the results of a study whose file is not there'),
], ids=['empty', 'other', 'missing', 'not begun', 'no config', 'bad config',
        'study'])
def test_bad_folders_get_one_sentence(make, sentence, tmp_path, monkeypatch):
    make(tmp_path / 'run')
    monkeypatch.setattr('sys.argv', ['report.py', str(tmp_path / 'run')])
    with pytest.raises(SystemExit, match=sentence) as error:
        tool.main()
    assert '\n' not in str(error.value)


def test_bad_options_get_one_sentence(tmp_path, monkeypatch):
    made_up(tmp_path / 'run')
    for flag, value, sentence in (
            ('--metric', 'AP', "has the metric 'AP': there are 'score'"),
            ('--baseline', 'SGD', "name one of 'run'"),
            ('--analysis', str(tmp_path), 'no summary.json with a summary.md'
             )):
        monkeypatch.setattr('sys.argv', [
            'report.py', str(tmp_path / 'run'), flag, value])
        with pytest.raises(SystemExit, match=sentence):
            tool.main()


def test_plotly_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(page, 'files', lambda name: __import__('no_such'))
    with pytest.raises(ValueError, match='run pip install plotly'):
        page.compressed_plotly.__wrapped__()


def test_a_study_without_results_names_the_command(tmp_path):
    study = write(tmp_path)
    with pytest.raises(ValueError, match='run python tools/study.py'):
        compare([study.path])
    assert find_trainings(made_up(tmp_path / 'run')) == [tmp_path / 'run']


@pytest.mark.slow
def test_the_demo_ends_with_a_report(tmp_path, monkeypatch, capsys):
    def train_all(study):
        fill(study, {(run.case, run.setting, run.seed): 50.
                     for run in study.runs()})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['demo.py'])
    monkeypatch.setattr(demo, 'subprocess', SimpleNamespace(
        run=lambda *args, **kwargs: None))
    monkeypatch.setattr(demo, 'Trainings', lambda study, *_: SimpleNamespace(
        train_all=lambda runs: train_all(study), failures=[]))
    demo.main()
    text = (tmp_path / 'work_dirs/demo/report.html').read_text()
    assert 'work_dirs/demo/report.html' in capsys.readouterr().out
    for name in demo.STUDIES:
        assert f'{name}</h2>' in text
    assert 'python tools/demo.py' in text
