"""What a study will take, its smaller forms, and job arrays."""

import os
import subprocess
from itertools import count
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ausam_mm.tooling.plan import plan
from ausam_mm.tooling.settings import build_model
from ausam_mm.tooling.studies import Run

from .test_study import CIFAR, fill, main, write

STUDY = f"""
question = 'Does it help?'
config = {str(CIFAR / 'resnet18-c16_b128_cifar10-2000.py')!r}
cases = {{'narrow': {{'model.backbone.base_channels': 4,
                     'model.head.in_channels': 32}}, 'wide': {{}}}}
settings = {{
    'SGD': {{'train_cfg.max_epochs': 6}},
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.1)),
    'AUSAM (0.25)': dict(optim_wrapper=dict(
        type='AUSAM', alpha=0.25, warmup_epochs=3)),
}}
seeds = (0, 1, 2)
num_samples = 1_000
metric = 'accuracy/top1'
comparisons = [('SAM', 'SGD')]
scales = dict(tiny=dict(
    cases=('narrow', ), seeds=(1, ), options={{'train_cfg.max_epochs': 2}}))
"""


def test_a_plan_counts_what_is_left(tmp_path):
    study = write(tmp_path, STUDY)
    fill(study, {('narrow', 'SGD', 0): 50.})
    runs = [run for run in study.runs() if run.case == 'narrow']
    plans = {one.setting: one for one in plan(study, runs, 'cpu')}
    assert [one.runs for one in plans.values()] == [2, 3, 3]
    # 1,000 samples are 8 batches of 128, the last of them incomplete.
    assert [one.iterations for one in plans.values()] == [48, 640, 640]
    # The warm-up's whole batches are not what most steps are.
    assert [one.passes for one in plans.values()] == [1., 2., 0.5]
    sgd, sam, ausam = plans.values()
    # On a CPU one model is timed once.
    assert 0 < 2 * ausam.seconds == sgd.seconds == sam.seconds / 2
    assert sam.hours == pytest.approx(640 * sam.seconds / 3600)


def test_a_step_of_a_part_stands_for_one_of_the_batch(tmp_path, monkeypatch):
    clock = SimpleNamespace(perf_counter=count().__next__)  # a second a look
    monkeypatch.setattr('ausam_mm.tooling.plan.time', clock)
    study = write(tmp_path, STUDY)
    one, = plan(study, [Run('narrow', 'SGD', 0)], 'cpu')
    assert one.seconds == 128 / 20  # samples of the batch, and of the part


def test_a_step_is_timed_on_the_data_where_it_is_there(
        tmp_path, monkeypatch):
    for label in 'ab':
        (tmp_path / 'train' / label).mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(tmp_path / f'train/{label}/{i}.png'),
                        np.zeros((12, 8, 3), 'uint8'))
    data = dict(
        type='CustomDataset', data_root=str(tmp_path), data_prefix='train',
        with_label=True, _delete_=True,
        # Nothing brings images to the size of the data.
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    study = write(tmp_path, STUDY.replace(
        'num_samples = 1_000\n', f"""
options = {{'train_dataloader.dataset': {data!r},
            'train_dataloader.batch_size': 4}}
"""))
    seen = []

    def build(cfg):
        model = build_model(cfg)
        model.backbone.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].shape))
        return model

    monkeypatch.setattr('ausam_mm.tooling.plan.build_model', build)
    one, = plan(study, [Run('narrow', 'SGD', 0)], 'cpu', steps=1)
    assert one.iterations == 6 and one.seconds > 0
    assert {*seen} == {(4, 3, 12, 8)}


def test_methods_whose_steps_differ_cost_what_they_do_in_the_mean(tmp_path):
    study = write(tmp_path, STUDY.replace("type='SAM'", "type='LookSAM'"))
    one, = plan(study, [Run('narrow', 'SAM', 0)], 'cpu')
    assert one.passes == pytest.approx(6 / 5)  # two passes in every fifth


def test_a_plan_without_data_names_what_tells_their_number(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = write(tmp_path, STUDY.replace('num_samples = 1_000\n', ''))
    with pytest.raises(SystemExit, match='num_samples'):
        plan(study, study.runs(), 'cpu')
    # The number is that of the whole data, not of a smaller form's.
    tiny = write(tmp_path, STUDY).scaled('tiny')
    with pytest.raises(SystemExit, match='num_samples'):
        plan(tiny, tiny.runs(), 'cpu')


def test_a_smaller_form_has_options_runs_and_results_of_its_own(tmp_path):
    study = write(tmp_path, STUDY)
    tiny = study.scaled('tiny')
    assert [*tiny.runs()] == [Run('narrow', setting, 1)
                              for setting in study.settings]
    # Those of the scale are merged last.
    assert tiny.config_of(Run('narrow', 'SGD', 1)).train_cfg.max_epochs == 2
    assert study.config_of(Run('narrow', 'SGD', 1)).train_cfg.max_epochs == 6
    fill(tiny, {('narrow', 'SGD', 1): 50.})
    assert tiny.result_of(Run('narrow', 'SGD', 1))['value'] == 50
    assert study.result_of(Run('narrow', 'SGD', 1)) is None
    with pytest.raises(SystemExit, match="--scale 'small' .* has 'tiny'"):
        study.scaled('small')


def test_a_smaller_form_keeps_what_makes_a_setting(tmp_path):
    study = write(tmp_path, STUDY.replace(
        'tiny=dict(', "tiny=dict(settings={'SGD': {'train_cfg.max_epochs': "
        '1}},'))
    epochs = {setting: study.scaled('tiny').config_of(
        Run('narrow', setting, 1)).train_cfg.max_epochs
        for setting in study.settings}
    assert epochs == {'SGD': 1, 'SAM': 2, 'AUSAM (0.25)': 2}
    with pytest.raises(SystemExit, match="'SGD, typo' is no setting"):
        write(tmp_path, STUDY.replace(
            'tiny=dict(', "tiny=dict(settings={'SGD, typo': {}},"))


def test_a_case_may_start_from_another_config(tmp_path):
    study = write(tmp_path, STUDY.replace("'wide': {}", "'wide': dict(config="
                  f"{str(CIFAR / 'wrn28-10_b256_cifar10.py')!r})"))
    assert study.config_of(
        Run('wide', 'SAM', 0)).model.backbone.type == 'PytorchCVBackbone'


def test_each_task_of_a_job_array_trains_one_unfinished_run(
        tmp_path, monkeypatch, capsys):
    study = write(tmp_path, STUDY)
    fill(study.scaled('tiny'), {('narrow', 'SGD', 1): 50.})
    main(monkeypatch, study.path, '--scale', 'tiny', '--slurm')
    script = tmp_path / 'array.sh'
    script.write_text(capsys.readouterr().out)
    assert '#SBATCH --array=0-1\n' in script.read_text()
    # In the place of slurm's own, which starts what follows it.
    (tmp_path / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    env = dict(os.environ, SLURM_ARRAY_TASK_ID='1',
               PATH=f'{tmp_path}:{os.environ["PATH"]}')
    words = subprocess.run(['bash', script], env=env, text=True, check=True,
                           capture_output=True).stdout.splitlines()
    assert words[words.index('--only') + 1] == 'AUSAM (0.25)'
    assert words[words.index('--scale') + 1] == 'tiny'
    assert words[0] == 'python'


def test_a_study_that_is_finished_has_nothing_to_submit(
        tmp_path, monkeypatch, capsys):
    study = write(tmp_path, STUDY)
    fill(study.scaled('tiny'), {
        ('narrow', setting, 1): 50. for setting in study.settings})
    with pytest.raises(SystemExit, match='nothing to submit'):
        main(monkeypatch, study.path, '--scale', 'tiny', '--slurm')
    main(monkeypatch, study.path, '--scale', 'tiny', '--plan')
    assert 'All runs are finished' in capsys.readouterr().out
