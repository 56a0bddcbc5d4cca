"""The trainings of a study: which are started, and what is kept of them."""

import fcntl
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ausam_mm.tooling import trainings
from ausam_mm.tooling.studies import Run, read_study
from ausam_mm.tooling.trainings import Trainings, measure

from .test_study import fill, write

# What stands in for tools/train.py: it writes a log, or does what the file
# 'behavior' says.
TRAIN = """
import json, os, sys
from pathlib import Path
folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
with open('started', 'a') as file:
    print(folder.name, os.environ['OMP_NUM_THREADS'],
          os.environ['CUDA_VISIBLE_DEVICES'], file=file)
lines = [dict(loss=1, step=1, time=2), dict(step=1, accuracy=40.)]
behavior = Path('behavior')
if behavior.exists():
    exec(behavior.read_text())
log = folder / '1' / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
log.write_text('\\n'.join(map(json.dumps, lines)))
"""


def test_a_run_is_measured_by_what_the_wrapper_counts():
    records = [
        dict(loss=1, step=1, time=2), dict(loss=1, step=2, time=3),
        dict(step=1, score=0.5), dict(loss=1, step=3, time=4),
        dict(step=2, score=0.25)]
    found = measure(records, 'score', 10)
    assert found == dict(
        value=0.25, sgd_steps=3, seconds=9, samples_loaded=30,
        samples_backpropagated=30, curve=[
            dict(step=1, sgd_steps=2, seconds=5, value=0.5),
            dict(step=2, sgd_steps=3, seconds=9, value=0.25)])
    records[3].update({'ausam/sgd_steps': 5, 'ausam/samples_loaded': 28,
                       'ausam/samples_backpropagated': 56})
    found = measure(records, 'score', 10)
    assert (found['sgd_steps'], found['samples_loaded'],
            found['samples_backpropagated']) == (5, 28, 56)


@pytest.mark.parametrize('epoch, seen, steps', [
    (16, 26, 3), (21, 21, 2), (10, 30, 3),
    (4, 12, 3),  # less than a batch
])
def test_the_last_batch_of_an_epoch_counts_what_it_has(epoch, seen, steps):
    records = [dict(loss=1, step=step, time=1) for step in (1, 2, 3)]
    found = measure([*records, dict(step=3, score=1)], 'score', 10, epoch)
    assert found['samples_loaded'] == found['samples_backpropagated'] == seen
    assert found['sgd_steps'] == steps


def test_a_study_asks_the_data_how_long_an_epoch_is(fake):
    study, make = fake
    Path('behavior').write_text(
        "lines[0]['step'] = 32\nif 'SAM' in folder.name:\n"
        "    lines[0]['ausam/sgd_steps'] = 64")
    make().train_all([Run('', 'SGD', 0), Run('', 'SAM', 0)])
    # An epoch of 2,000 images in batches of 64.
    assert study.result_of(Run('', 'SGD', 0))['samples_loaded'] == 2000
    assert study.result_of(Run('', 'SGD', 0))['sgd_steps'] == 31
    assert study.result_of(Run('', 'SAM', 0))['sgd_steps'] == 64


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A study of four runs whose trainings take a moment, on a CPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(trainings, 'visible_gpus', lambda: [])
    (tmp_path / 'train.py').write_text(TRAIN)
    study = write(tmp_path, metric=('accuracy/top1', 'accuracy'))

    def make(jobs=1, **kwargs):
        return Trainings(study, tmp_path / 'train.py', tmp_path / 'work',
                         jobs, **kwargs)

    return study, make


def started():
    return [line.split() for line in Path('started').read_text().splitlines()]


def test_what_is_finished_is_not_trained_again(fake):
    study, make = fake
    fill(study, {('', 'SGD', 1): 50.})
    for _ in range(2):
        runs = make(jobs=2)
        runs.train_all(study.runs())
        assert not runs.failures
    # Seed by seed, each with one thread.
    assert sorted(started()[:2]) == [['SAM-seed-0', '1'], ['SGD-seed-0', '1']]
    assert [line[0] for line in started()[2:]] == ['SAM-seed-1']
    values = [study.result_of(one)['value'] for one in study.runs()]
    assert values == [40, 40, 50, 40]


def test_what_is_finished_is_trained_again_where_it_is_asked_for(fake):
    study, make = fake
    runs = list(study.runs())[:1]
    make().train_all(runs)
    # On another machine the result is there and the training is not.
    shutil.rmtree('work')
    Path('behavior').write_text("lines[1]['accuracy'] = 41.")
    make(again=True).train_all(runs)
    assert len(Path('started').read_text().splitlines()) == 2
    assert study.result_of(runs[0])['value'] == 41


def test_a_result_is_there_as_soon_as_its_run_is_finished(fake):
    study, make = fake
    Path('behavior').write_text(
        "if 'SAM' in folder.name:\n"
        "    lines.append(dict(step=2, accuracy=float(Path("
        "'results/some/runs/SGD-seed-0.json').exists())))")
    runs = make()
    runs.train_all([Run('', 'SGD', 0), Run('', 'SAM', 0)])
    assert study.result_of(Run('', 'SAM', 0))['value'] == 1


def test_other_runs_go_on_where_one_fails(fake, capsys):
    study, make = fake
    Path('behavior').write_text(
        "if 'SAM-seed-0' in folder.name: exit('No data.\\nConvert them.')")
    runs = make()
    runs.train_all(study.runs())
    (failure, ) = runs.failures
    assert failure == (
        'The training of SAM, seed 0 failed with code 1: the whole log is '
        f'{runs.folder(Run("", "SAM", 0)) / "output.txt"}.\n  Convert them.')
    assert len(list((study.results / 'runs').iterdir())) == 3


def test_a_metric_that_is_missing_is_named(fake):
    study, make = fake
    Path('behavior').write_text('lines[1] = dict(step=1, score=2.)')
    runs = make()
    runs.train_all([Run('', 'SGD', 0)])
    assert "has no metric 'accuracy': set metric to one of" in \
        runs.failures[0] and "'score'" in runs.failures[0]


def test_a_run_killed_before_its_last_metric_is_trained_anew(fake):
    study, make = fake
    Path('behavior').write_text(
        "if len(open('started').readlines()) == 1: del lines[1]")
    runs = make()
    runs.train_all([Run('', 'SGD', 0)])
    assert not runs.failures and len(started()) == 2
    assert study.result_of(Run('', 'SGD', 0))
    Path('behavior').write_text('del lines[1]')  # for good
    runs.train_all([Run('', 'SAM', 0)])
    assert 'no metric after the last iteration' in runs.failures[0]
    assert len(started()) == 4


def test_a_run_that_another_process_trains_is_waited_for(fake, capsys):
    study, make = fake
    runs = make()
    one = Run('', 'SGD', 0)
    runs.work_dir.mkdir()
    with open(f'{runs.folder(one)}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert runs.start(one, 0) is None
    assert 'waits for the process that trains it' in capsys.readouterr().out
    # A training keeps the lock when the study is killed.
    Path('behavior').write_text('import time; time.sleep(60)')
    training = runs.start(one, 0)
    training.lock.close()
    try:
        assert runs.start(one, 0) is None
    finally:
        training.process.kill()
        training.process.wait()
    Path('behavior').unlink()
    runs.train_all([one])
    assert study.result_of(one)


def test_trainings_end_with_a_study_that_is_stopped(fake, monkeypatch):
    study, make = fake
    Path('behavior').write_text('import time; time.sleep(60)')
    runs = make(jobs=2)
    processes = []

    def stop(seconds):
        raise SystemExit(143)  # as the handler of SIGTERM does

    def start(*arguments):
        processes.append(Trainings.start(runs, *arguments).process)
        return SimpleNamespace(process=processes[-1])

    monkeypatch.setattr(trainings.time, 'sleep', stop)
    monkeypatch.setattr(runs, 'start', start)
    with pytest.raises(SystemExit):
        runs.train_all(study.runs())
    assert [process.poll() for process in processes] == [-signal.SIGTERM] * 2


def test_a_run_under_way_goes_on_unless_it_was_changed(fake):
    study, make = fake
    one = Run('', 'SAM', 0)
    checkpoint = make().folder(one) / 'epoch_1.pth'

    def start(rho):
        write(study.path.parent, rho=('rho=0.1', f'rho={rho}'))
        runs = make()
        runs.study = read_study(study.path)
        training = runs.start(one, 0)
        training.process.wait()
        training.lock.close()
        return checkpoint.exists()

    Path('behavior').write_text("(folder / 'epoch_1.pth').touch(); exit(1)")
    assert start(0.1)
    Path('behavior').write_text('exit(1)')  # from here on writes nothing
    assert start(0.1)
    assert not start(0.2)


def test_a_training_on_a_cpu_keeps_freed_memory_unless_told_otherwise(
        fake, monkeypatch):
    _, make = fake
    Path('behavior').write_text("""
with open('seen', 'a') as file:
    print(os.environ['MALLOC_TRIM_THRESHOLD_'], file=file)""")
    monkeypatch.delenv('MALLOC_TRIM_THRESHOLD_', raising=False)
    make().train_all([Run('', 'SGD', 0)])
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '65536')
    make().train_all([Run('', 'SAM', 0)])
    kept, told = map(int, Path('seen').read_text().split())
    assert kept >= 2**30 and told == 65536


def test_each_job_has_a_gpu_of_its_own(fake, monkeypatch):
    study, make = fake
    monkeypatch.setattr(trainings, 'visible_gpus', lambda: ['4', '6'])
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda i: f'GPU {i}')
    monkeypatch.setenv('OMP_NUM_THREADS', '8')
    make(jobs=2).train_all([Run('', 'SGD', 0), Run('', 'SAM', 0)])
    assert sorted(line[1:] for line in started()) == [['8', '4'], ['8', '6']]
    with pytest.raises(SystemExit, match='--jobs 3 needs a GPU each'):
        make(jobs=3)


def test_gpus_are_those_that_are_visible(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    assert trainings.visible_gpus() == ['4', '6']
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert trainings.visible_gpus() == ['0', '1']
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    assert trainings.visible_gpus() == []
