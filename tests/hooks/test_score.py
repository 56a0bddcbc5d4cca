"""The hook writes what the table holds, and changes nothing."""

import json
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ..runs import runner, scalars
from ..tools.test_tools import PLAIN, data  # noqa: F401

AUSAM = dict(type='AUSAM', warmup_epochs=1, ramp_epochs=0)
LOCAL = dict(type='LocalVisBackend')


@pytest.fixture(autouse=True)
def scope():
    """Leaves no default scope behind."""
    yield
    DefaultScope._instance_dict.clear()


def trained(folder, *hooks, wrapper=AUSAM, backends=(LOCAL, ), **kwargs):
    one = runner(folder, wrapper, custom_hooks=list(hooks), visualizer=dict(
        type='Visualizer', vis_backends=deepcopy([*backends])), **kwargs)
    one.train()
    return one



def test_scalars_are_those_of_the_table_and_the_training_is_the_same(tmp_path):
    event_accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator')
    plain = trained(tmp_path / 'plain')
    hooked = trained(tmp_path / 'hooked', dict(
        type='ScoreHook', interval=2, number=0), backends=(
            LOCAL, dict(type='TensorboardVisBackend')))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(hooked.model.state_dict()[name], value), name
    table = torch.load(tmp_path / 'hooked' / 'epoch_4.pth', weights_only=False
                       )['optimizer']['ausam_mm']['history']
    lines = [line for line in scalars(hooked) if 'scores/median' in line]
    assert [line['step'] for line in lines] == [6, 12]  # 3 iterations each
    means, counts = table['means'].numpy(), table['counts'].numpy()
    for name, expected in (
            ('min', means.min()), ('q25', np.percentile(means, 25)),
            ('median', np.median(means)), ('max', means.max()),
            ('mean', means.mean()), ('samples', 24), ('failed', 0),
            ('used_mean', counts.mean()), ('used_max', counts.max())):
        assert lines[1][f'scores/{name}'] == pytest.approx(expected), name
    events = event_accumulator.EventAccumulator(
        str(next(tmp_path.glob('hooked/*/vis_data'))))
    events.Reload()
    assert events.Scalars('scores/median')[1].value == pytest.approx(
        np.median(means), rel=1e-5)
    assert [image.step for image in events.Images('score_histogram.png')] == [
        6, 12]
    pictures = sorted(tmp_path.glob('hooked/*/vis_data/vis_image/*.png'))
    assert [path.name for path in pictures] == [
        'score_histogram.png_12.png', 'score_histogram.png_6.png']
    assert cv2.imread(str(pictures[0])).std() > 10  # something is drawn


def test_intervals_count_iterations_too(tmp_path):
    one = trained(tmp_path, dict(
        type='ScoreHook', interval=2, by_epoch=False, number=0),
        by_epoch=False, length=5)
    assert [line['step'] for line in scalars(one)
            if 'scores/median' in line] == [2, 4]


@pytest.mark.parametrize('wrapper', [
    dict(type='OptimWrapper'), dict(type='AUSAM', scores='uniform')])
def test_a_training_without_scores_is_refused(wrapper, tmp_path):
    with pytest.raises(ValueError, match='leave the hook out'):
        trained(tmp_path, dict(type='ScoreHook', number=0), wrapper=wrapper)


def test_images_of_other_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match='set number=0'):
        trained(tmp_path, dict(type='ScoreHook'))


@pytest.mark.parametrize('options,match', [
    (dict(interval=0), 'interval=0'), (dict(number=-1), 'number=-1')])
def test_options_out_of_range_are_refused(options, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        trained(tmp_path, dict(type='ScoreHook', **options))


@pytest.mark.slow
def test_images_are_the_most_used_and_change_no_training(
        data, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(data)

    def train(name, *hooks):
        cfg = Config.fromfile(PLAIN)
        dataset = cfg.train_dataloader.dataset
        # Draws from the global generators in the main process.
        dataset.pipeline.insert(1, dict(type='RandomFlip', prob=0.5))
        dataset.indices = 40
        cfg.merge_from_dict(dict(
            model=dict(backbone=dict(base_channels=4, stem_channels=4),
                       head=dict(in_channels=32)),
            train_dataloader=dict(batch_size=10, num_workers=0),
            train_cfg=dict(max_epochs=3), randomness=dict(seed=0),
            optim_wrapper=dict(type='AUSAM', ramp_epochs=0),
            work_dir=str(tmp_path / name), custom_hooks=list(hooks),
            val_cfg=None, val_dataloader=None, val_evaluator=None,
            experiment_name=name))
        cfg.train_dataloader.dataset = dict(
            type='LabelNoise', ratio=0.5, dataset=dataset)
        one = Runner.from_cfg(cfg)
        one.train()
        return one

    plain = train('plain')
    hooked = train('hooked', dict(type='ScoreHook', number=6))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(hooked.model.state_dict()[name], value), name
    pictures = sorted((tmp_path / 'hooked').rglob('most_used.png_*.png'))
    assert [path.name for path in pictures] == [
        f'most_used.png_{step}.png' for step in (12, 4, 8)]
    red = [((image := cv2.imread(str(path)))[..., 2] > 250) & (
        image[..., :2].max(-1) < 5) for path in pictures]
    assert max(mask.sum() for mask in red) > 500  # frames of wrong labels
    log = next((tmp_path / 'hooked').rglob('scalars.json')).read_text()
    assert json.loads(log.splitlines()[-1])['scores/used_max'] == 3
