"""Studies: what is trained, what is kept, and what is made of it."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from ausam_mm.tooling.studies import Run, read_study
from ausam_mm.tooling.trainings import Trainings
from tools import study as tool

from .test_tools import PLAIN, ROOT, data, run  # noqa: F401

CIFAR = ROOT / 'configs/classification/cifar10'
TOOL = ROOT / 'tools' / 'study.py'
STUDY = f"""
question = 'Does it help?'
config = {str(PLAIN)!r}
settings = {{
    'SGD': {{}},
    'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.1)),
}}
seeds = (0, 1)
metric = 'accuracy/top1'
num_samples = 2000
comparisons = [('SAM', 'SGD')]
"""


def write(folder, text=STUDY, **changes):
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    path = folder / 'some.py'
    path.write_text(text)
    return read_study(path)


def fill(study, values, **more):
    """Writes results: values by case, setting and seed."""
    for (case, setting, seed), value in values.items():
        one = Run(case, setting, seed)
        study.write_result(one, dict(dict(
            case=case, setting=setting, seed=seed, value=value, seconds=10,
            fingerprint=study.fingerprint(study.config_of(one)),
            sgd_steps=100, samples_loaded=800, samples_backpropagated=800,
            machine='a machine', jobs=1,
            curve=[dict(step=1, sgd_steps=100, seconds=10, value=value)]),
            **more))


def main(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['study.py', *map(str, arguments)])
    tool.main()


def test_a_setting_starts_from_the_options_of_its_config(tmp_path):
    study = write(tmp_path, f"""
question = ''
config = {str(CIFAR / 'resnet18-c16_b128_cifar10-2000.py')!r}
options = {{'train_cfg.max_epochs': 7, 'param_scheduler.T_max': 7}}
settings = {{
    'SGD': {{'train_cfg.max_epochs': 14}},
    'AUSAM': dict(
        config={str(CIFAR / 'resnet18-c16_ausam_b128_cifar10-2000.py')!r},
        optim_wrapper=dict(alpha=(0.25, 0.75))),
}}
seeds = [3]
metric = 'accuracy/top1'
comparisons = [('AUSAM', 'SGD')]
""")
    cfg = study.config_of(Run('', 'AUSAM', 3))
    optimizer = cfg.optim_wrapper.pop('optimizer')
    assert dict(cfg.optim_wrapper) == dict(
        type='AUSAM', rho=0.1, ramp_epochs=12, alpha=(0.25, 0.75))
    assert optimizer.lr == 0.1 and cfg.randomness.seed == 3
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler.T_max == 7
    plain = study.config_of(Run('', 'SGD', 3))
    assert plain.optim_wrapper.type == 'OptimWrapper'
    assert plain.train_cfg.max_epochs == 14


def test_a_run_starts_from_the_model_of_its_own_seed(tmp_path):
    study = write(tmp_path, start=("'SGD': {}", "'SGD': dict("
                                   "load_from='float-{seed}/epoch_2.pth')"))
    runs = [Run('', 'SGD', seed) for seed in (0, 1)]
    assert [study.config_of(run).load_from for run in runs] == [
        'float-0/epoch_2.pth', 'float-1/epoch_2.pth']
    assert study.config_of(Run('', 'SAM', 1)).load_from is None


def test_runs_can_be_resumed_exactly_whatever_the_config_keeps(tmp_path):
    cfg = write(tmp_path).config_of(Run('', 'SAM', 0))
    assert cfg.train_cfg.type == 'ExactResumeEpochBasedTrainLoop'
    assert 'by_epoch' not in cfg.train_cfg
    # MMEngine deletes before it writes: with one there may be none.
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 2
    cfg = write(tmp_path, iters=('seeds', 'options = dict(train_cfg=dict('
                                 '_delete_=True, by_epoch=False, max_iters=9))'
                                 '\nseeds')).config_of(Run('', 'SAM', 0))
    assert cfg.train_cfg == dict(
        type='ExactResumeIterBasedTrainLoop', max_iters=9)
    cfg = write(tmp_path, own=('seeds', 'options = dict(train_cfg=dict('
                               "_delete_=True, type='Mine'))"
                               '\nseeds')).config_of(Run('', 'SAM', 0))
    assert cfg.train_cfg == dict(type='Mine')


def test_a_changed_setting_makes_its_own_runs_stale_and_no_others(tmp_path):
    study = write(tmp_path)
    fill(study, {('', setting, seed): 50. for setting in ('SGD', 'SAM')
                 for seed in (0, 1)})

    def there(**changes):
        changed = write(tmp_path, **changes)
        return [(one.setting, one.seed) for one in changed.runs()
                if changed.result_of(one)]

    everything = [('SGD', 0), ('SAM', 0), ('SGD', 1), ('SAM', 1)]
    assert there() == everything
    assert there(rho=('rho=0.1', 'rho=0.2')) == [('SGD', 0), ('SGD', 1)]
    assert there(seeds=('(0, 1)', '(1, 2)')) == [('SGD', 1), ('SAM', 1)]
    assert there(question=('help?', 'help at all?'), order=(
        "('SAM', 'SGD')", "('SGD', 'SAM')")) == everything
    assert there(metric=('top1', 'top5')) == []
    assert there(all=('seeds', 'options = {"model.head.num_classes": 9}\n'
                      'seeds')) == []


def test_results_are_not_stale_in_another_folder(tmp_path):
    for place in ('here', 'there'):
        folder = tmp_path / place
        (folder / 'studies').mkdir(parents=True)
        (folder / 'config.py').write_text(
            f"_base_ = {str(PLAIN)!r}\nfile = '{{{{ fileDirname }}}}/a.py'\n")
        study = write(folder / 'studies', config=(
            repr(str(PLAIN)), "'../config.py'"))
        if place == 'here':
            fill(study, {('', 'SGD', 0): 50.})
            results = study.results
    assert str(tmp_path) in study.config_of(Run('', 'SGD', 0)).file
    shutil.copytree(results, study.results)
    assert study.result_of(Run('', 'SGD', 0))['value'] == 50


@pytest.mark.parametrize('old,new,message', [
    ("question = 'Does it help?'", '', "'question' is missing: write it as"),
    ('seeds =', 'sead =', "'sead' is unknown: the names are question, "),
    ('(0, 1)', '(0, 0)', r'seeds=\(0, 0\): write different integers'),
    ('(0, 1)', '3', 'seeds=3: write different integers'),
    ("('SAM', 'SGD')", "('SAM', 'Adam')",
     "'Adam' is no setting: name one of 'SGD', 'SAM'"),
    ("[('SAM', 'SGD')]", "('SAM', 'SGD')",
     r"comparisons=\('SAM', 'SGD'\): write pairs of settings"),
    ("'SGD': {}", "'SGD': 'SGD'", 'write a dict of options by name'),
    ("'SGD': {}", "'SGD': {}, '(SGD)': {}",
     'Two runs would have the files SGD-seed-0: give'),
])
def test_a_study_that_does_not_fit_together_is_refused(
        old, new, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        write(tmp_path, change=(old, new))


def test_names_with_an_underscore_and_imports_are_the_studys_own(tmp_path):
    study = write(tmp_path, own=('question', 'import math\nfrom pathlib import'
                                 ' Path\n_rho = 0.1\nquestion'))
    assert study.question == 'Does it help?'


@pytest.mark.parametrize('old,new,message', [
    ('rho=0.1', 'rho=-1', "The setting 'SAM': rho=-1 is no radius"),
    ("type='SAM'", "type='SAN'", "The setting 'SAM': .*SAN"),
    (PLAIN.name, 'other.py', r'There is no config .*other\.py'),
    ('seeds', 'options = dict(val_evaluator=None)\nseeds',
     'The config of SGD, seed 0 has no val_evaluator: a study trains'),
    ("'SGD': {}", "'SGD': {'train_cfg.max_epochs': dict(a=1)}",
     'The options of SGD, seed 0 do not fit the config: max_epochs'),
])
def test_a_run_that_cannot_work_is_refused_before_any_training(
        old, new, message, tmp_path, monkeypatch):
    write(tmp_path, change=(old, new))
    monkeypatch.setattr(Trainings, 'train_all', lambda *_: pytest.fail())
    with pytest.raises(SystemExit, match=message):
        main(monkeypatch, tmp_path / 'some.py')


@pytest.mark.parametrize('arguments,message', [
    (['other.py'], 'There is no study other.py'),
    (['some.py', '--only', 'Adam'],
     "--only 'Adam' is not in some.py: take 'SGD', 'SAM'"),
    (['some.py', '--seeds', 7], '--seeds 7 is not in some.py: take 0, 1'),
    (['some.py', '--report'], 'No run of some.py is finished'),
])
def test_bad_arguments_get_a_sentence(
        arguments, message, tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        main(monkeypatch, *arguments)


def test_a_damaged_result_is_named(tmp_path):
    study = write(tmp_path)
    path = study.results / 'runs' / 'SGD-seed-0.json'
    path.parent.mkdir(parents=True)
    for text in ('<<<<<<< HEAD', '[]', '{}'):
        path.write_text(text)
        with pytest.raises(SystemExit, match='SGD-seed-0.json is no result'):
            study.result_of(Run('', 'SGD', 0))


def test_list_prints_commands_that_train_a_run_each(
        tmp_path, monkeypatch, capsys):
    study = write(tmp_path, cases=('seeds', "cases = {'40 %': {}}\nseeds"))
    fill(study, {('40 %', 'SGD', 0): 50.})
    monkeypatch.chdir(tmp_path)
    main(monkeypatch, 'some.py', '--list', '--seeds', 0)
    (line, ) = capsys.readouterr().out.splitlines()
    assert line == ("python study.py some.py --only SAM --seeds 0 --cases "
                    "'40 %'")
    main(monkeypatch, 'some.py', '--list')
    assert len(capsys.readouterr().out.splitlines()) == 3
    main(monkeypatch, 'some.py', '--list', '--again')
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.endswith('--again') for line in lines)


@pytest.mark.parametrize('path', sorted([
    *ROOT.glob('studies/[!_]*.py'), *ROOT.glob('studies/paper/[!_]*.py')]),
    ids=lambda path: path.stem)
def test_the_studies_here_fit_together(path):
    study = read_study(path)
    for form in (study, *map(study.scaled, study.scales)):
        form.check()
    assert study.question and '../configs/' in study.config


def test_the_study_of_the_docs_fits_together(tmp_path):
    text = (ROOT / 'docs' / 'studies.md').read_text()
    example = text.split('```python\n')[1].split('```')[0]
    study = write(
        tmp_path, example,
        config=("'../my_config.py'", repr(str(PLAIN))),
        ausam=("'../my_config_ausam.py'", repr(str(
            CIFAR / 'resnet18-c16_ausam_b128_cifar10-2000.py'))))
    study.check()
    assert study.config_of(
        Run('', 'SGD twice as long', 0)).train_cfg.max_epochs == 40


@pytest.mark.slow
def test_a_killed_study_ends_as_if_it_had_not_been(data, tmp_path):  # noqa: F811
    study = write(tmp_path, STUDY.replace(
        "'SAM': dict(optim_wrapper=dict(type='SAM', rho=0.1))",
        "'AUSAM': dict(optim_wrapper=dict(type='AUSAM', warmup_iters=3, "
        'alpha=(0.25, 0.75)))').replace("('SAM', 'SGD')", "('AUSAM', 'SGD')")
        .replace('num_samples = 2000', 'num_samples = 355')
        + """
options = {
    'train_dataloader.dataset.data_prefix': 'val',
    'train_dataloader.batch_size': 71,
    # Long enough not to end before it is killed, on a busy machine, too.
    'train_cfg.max_epochs': 8,
    'train_cfg.val_interval': 1,
    'model.backbone.base_channels': 4,
    'model.backbone.stem_channels': 4,
    'model.head.in_channels': 32,
}
""")
    command = (TOOL, study.path, '--work-dir', tmp_path / 'work')
    ausam, results = Run('', 'AUSAM', 0), study.results / 'runs'
    under_way = tmp_path / 'work' / ausam.name
    # A session of its own, so that trainings are killed with the study.
    process = subprocess.Popen(
        [sys.executable, '-W', 'ignore', *map(str, command)], cwd=data,
        env=dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES=''),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True)
    while not (under_way / 'epoch_2.pth').exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (finished, ) = results.iterdir()
    time_of_first = finished.stat().st_mtime_ns

    out = run(*command, cwd=data)
    assert 'Decides' in (study.results / 'table.md').read_text()
    assert '4 of 4 runs are finished' in out and 'AUSAM minus SGD' in out
    assert finished.stat().st_mtime_ns == time_of_first
    assert 'resumed epoch: ' in (under_way / 'output.txt').read_text()
    result = study.result_of(ausam)
    # 8 epochs of 5 batches; after 3 full ones 17 and 53 samples of 71.
    assert result['samples_backpropagated'] == 2 * 3 * 71 + 37 * (17 + 53)
    assert result['sgd_steps'] == round(
        result['samples_backpropagated'] / 71)
    assert study.result_of(Run('', 'SGD', 0))['samples_backpropagated'] == \
        8 * 5 * 71

    (results / f'{ausam.name}.json').unlink()
    run(TOOL, study.path, '--work-dir', tmp_path / 'never', '--only', 'AUSAM',
        '--seeds', 0, cwd=data)
    again = study.result_of(ausam)
    assert again['value'] == result['value']
    final = [torch.load(tmp_path / name / ausam.name / 'epoch_8.pth',
                        weights_only=False)['state_dict']
             for name in ('work', 'never')]
    for name, value in final[0].items():
        assert torch.equal(value, final[1][name]), name
