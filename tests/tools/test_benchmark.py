"""The benchmark: what it counts, in which order it runs, what it writes."""

import json

import cv2
import numpy as np
import pytest
import torch

from ausam_mm.sampling import sample_keys
from ausam_mm.tooling.runner import read_config
from ausam_mm.tooling.settings import Setup, scope_of
from tools.analysis_tools import benchmark

from .test_tools import ROOT

DIGITS = str(
    ROOT / 'configs/classification/digits/resnet18-c16_b64_digits.py')
SIMCC = str(ROOT / 'configs/pose/figures/simcc_res18-c16_b64_figures-64x64.py')
RTMPOSE = str(
    ROOT / 'configs/pose/coco/rtmpose-m_8xb256-420e_coco-256x192.py')
SMALL = ['model.backbone.base_channels=4', 'model.backbone.stem_channels=4',
         'model.head.in_channels=32']


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.setenv('LOCAL_RANK', '0')  # set by the tool otherwise
    monkeypatch.chdir(tmp_path)


def summary(*arguments, options=()):
    """Runs the tool in the current folder and returns what it wrote."""
    benchmark.main([*arguments, '--batch-size', '4', '--image-size', '64',
                    '--out', 'out', '--cfg-options', *SMALL, *options])
    with open('out/summary.json') as file:
        return json.load(file)


def parsed(config, *arguments):
    return benchmark.parse_args([
        config, '--batch-size', '4', '--image-size', '64', *arguments,
        '--cfg-options', *SMALL])


@pytest.mark.slow
def test_both_tasks_on_made_up_data(tmp_path):
    settings = ['OptimWrapper', 'SAM', 'AUSAM alpha=0.5',
                'AUSAM alpha=(0.25,0.75) rho=0.05']
    result = summary(DIGITS, SIMCC, '--wrappers', *settings, '--steps', '2',
                     '--block', '2', '--no-memory')
    shapes = [(case['inputs'], case['batch_size'])
              for case in result['results']]
    assert shapes == [('3x16x16', 4), ('3x64x64', 4)]
    for case in result['results']:
        rows = case['rows']
        assert [row['setting'] for row in rows] == settings
        assert [row['passes'] for row in rows] == [1, 2, 1, 1]
        assert [row['cost'] for row in rows] == [1, 2, 1, 1]
        # Those of the warm-up do not count.
        assert {row['samples_loaded'] for row in rows} == {2 * 2 * 4}
        assert {len(row['ratios']) for row in rows} == {2}
        assert 'with_loader' not in rows[0] and 'peak_mib' not in rows[0]
    text = (tmp_path / 'out/summary.md').read_text()
    assert all(f'| {setting} | ' in text for setting in settings)
    assert (tmp_path / 'out/ratios.png').stat().st_size > 10_000
    assert 'threads' in result['machine'] and '--block 2' in result['command']


def test_a_sample_that_only_goes_forwards_costs_a_third():
    cost = benchmark.costs(dict(
        samples_loaded=12, samples_backpropagated=6, samples_scored=12))
    assert cost == dict(passes=0.5, cost=pytest.approx(0.5 + 1 / 3))
    plain = Setup('OptimWrapper', None, None).count()
    assert benchmark.costs(plain) == dict(passes=1, cost=1)


def test_wrappers_take_turns(monkeypatch):
    turns = []

    def run_block(setup, batches, steps, device):
        turns.append((setup.setting, steps))
        return 3. if setup.setting == 'SAM' else 2.

    monkeypatch.setattr(benchmark, 'run_block', run_block)
    result = summary(DIGITS, '--wrappers', 'OptimWrapper', 'SAM', '--steps',
                     '3', '--block', '10', '--warmup', '4', '--no-memory')
    assert turns == [('OptimWrapper', 4), ('SAM', 4)] + 3 * [
        ('OptimWrapper', 10), ('SAM', 10)]
    plain, sam = result['results'][0]['rows']
    assert plain['ratio'] == 1 and plain['milliseconds'] == 200
    assert sam['ratio'] == 1.5 and sam['seconds'] == [3., 3., 3.]
    assert sam['quartiles'] == [1.5, 1.5]


def test_real_data_with_and_without_the_loader(tmp_path):
    for i in range(10):
        folder = tmp_path / 'images' / 'train' / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f'{i}.png'), np.random.default_rng(
            i).integers(0, 255, (16, 16, 3), dtype='uint8'))
    result = summary(DIGITS, '--wrappers', 'OptimWrapper', 'AUSAM', '--steps',
                     '3', '--data', 'real', '--no-memory', options=[
                         'train_dataloader.dataset.data_root=images'])
    case, = result['results']
    assert case['batch_size'] == 4  # the last two of an epoch are left out
    for row in case['rows']:
        assert row['passes'] == 1 and row['samples_loaded'] == 3 * 4
        assert len(row['seconds']) == len(row['with_loader']['seconds']) == 3


def test_all_wrappers_get_the_same_weights_data_and_steps():
    args = parsed(SIMCC, '--wrappers', 'SAM', '--steps', '3', '--block', '5')
    case, again = (benchmark.prepare(SIMCC, args) for _ in range(2))
    first, second = (batch for case in (case, again) for batch in case.batches)
    assert all(map(torch.equal, first['inputs'], second['inputs']))
    assert len(set(sample_keys(first).tolist())) == 4
    with scope_of(case.cfg):
        one, other = (benchmark.build(case, setting, args)
                      for setting in ('OptimWrapper', 'SAM rho=0.3'))
    assert all(map(torch.equal, one.model.parameters(),
                   other.model.parameters()))
    # The optimizer is the config's, and methods know how long it lasts.
    assert type(other.wrapper.optimizer) is torch.optim.Adam
    assert other.wrapper.param_groups[0]['rho'] == 0.3
    assert one.wrapper._max_counts == 3 + 3 * 5
    assert other.wrapper.base._max_counts == 3 + 3 * 5


@pytest.mark.parametrize('setting,expected', [
    ('SAM', {}),
    ('AUSAM', dict(warmup_iters=1, ramp_iters=0)),
    ('AUSAM warmup_iters=2', dict(warmup_iters=2, ramp_iters=0)),
    ('AUSAM ramp_epochs=3', dict(warmup_iters=1, ramp_epochs=3)),
])
def test_the_warm_up_is_over_unless_it_is_asked_for(setting, expected):
    args = parsed(DIGITS)
    cfg = read_config(DIGITS)
    wrapper = benchmark.configure(cfg, setting, args).optim_wrapper
    assert {key: value for key, value in wrapper.items()
            if key.startswith(('warmup', 'ramp'))} == expected
    assert cfg.optim_wrapper.get('type') == 'OptimWrapper'


def test_a_config_whose_transforms_are_of_absent_packages():
    args = benchmark.parse_args([RTMPOSE, '--batch-size', '2'])
    case = benchmark.prepare(RTMPOSE, args)
    assert benchmark.shape_of(case.batches[0]) == '3x256x192'


@pytest.mark.slow
def test_memory_is_that_of_a_process():
    row, = summary(DIGITS, '--wrappers', 'AUSAM alpha=(0.25,0.75)', '--steps',
                   '1')['results'][0]['rows']
    assert row['peak_mib'] > 10


def test_a_training_that_overflows_is_told(capsys):
    summary(DIGITS, '--wrappers', 'OptimWrapper', 'SAM', '--steps', '2',
            '--no-memory', options=['optim_wrapper.optimizer.lr=1e30'])
    told = capsys.readouterr().out
    assert 'The training of OptimWrapper overflowed' in told
    assert 'The training of SAM overflowed' in told


@pytest.mark.parametrize('arguments,message', [
    (['--wrappers', 'ASUAM'], 'no such wrapper is registered; .*AUSAM'),
    (['--wrappers', 'SAM', 'AUSAM alpha'], "the part 'alpha': write options"),
    (['--wrappers', 'alpha=0.5'], 'names no wrapper: write it first'),
    (['--wrappers', 'AUSAM alpha=2'], "'AUSAM alpha=2': alpha=2 must be a"),
    (['--wrappers', 'AUSAM alhpa=0.5'], "did you mean 'alpha'"),
    (['--wrappers', 'SAM train_dataloader.batch_size=2'],
     'change them with --cfg-options'),
    (['--data', 'real'], 'cannot be read .*data_root=FOLDER'),
    (['--cfg-options', 'train_dataloader.dataset.pipeline=[]'],
     'use --data real'),
    (['absent.py'], 'no config absent.py: name a file'),
])
def test_bad_input_is_told_before_anything_runs(arguments, message,
                                                monkeypatch):
    monkeypatch.setattr(benchmark, 'run_block', None)
    with pytest.raises(SystemExit, match=message):
        benchmark.main([DIGITS, *arguments])


def test_a_device_that_is_absent_is_told(capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_args([DIGITS, '--device', 'nowhere'])
    assert 'cannot be used' in capsys.readouterr().err
