"""The configs of docs/datasets.md train, and what they know is right."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import ausam_mm
from ausam_mm.sampling import sample_keys

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/datasets.md').read_text(encoding='utf-8')
SECTION = PAGE.split('## Wrong labels')[1].split('\n## ')[0]
CLASSES, KEYPOINTS, ADLP = (
    re.sub('^  ', '', block, flags=re.MULTILINE) if block[0] == ' ' else block
    for block in re.findall(r'```python\n(.*?)\n *```', SECTION, re.DOTALL))
FOLDERS = re.findall(r'`(configs/\w+/\w+)`:', SECTION)
SIZE = 20


class Seen(Hook):
    """Keeps the data samples of each step, and their keys."""

    def __init__(self):
        self.samples = []
        self.keys = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.samples += data_batch['data_samples']
        self.keys += sample_keys(data_batch).tolist()


@pytest.fixture(autouse=True)
def scope():
    """Leaves no default scope behind."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """The data of both configs: images of noise."""
    folder = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    persons = []
    for i in range(SIZE):
        path = folder / f'digits/train/{i % 10}/{i:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (8, 8, 3), 'uint8'))
        path = folder / f'figures/train/{i:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (64, 64, 3), 'uint8'))
        joints = np.hstack([rng.uniform(8, 56, (14, 2)), np.full((14, 1), 2)])
        persons.append(dict(
            id=i, image_id=i, category_id=1, bbox=[4, 4, 56, 56], area=3136,
            iscrowd=0, num_keypoints=14, keypoints=joints.ravel().tolist()))
    annotations = folder / 'figures/annotations/figures_train.json'
    annotations.parent.mkdir()
    annotations.write_text(json.dumps(dict(
        images=[dict(id=i, file_name=f'{i:02d}.png', width=64, height=64)
                for i in range(SIZE)],
        annotations=persons, categories=[dict(id=1, name='person')])))
    return folder


def config(text, folder, images):
    """A config of the page, which lies beside the one that it inherits."""
    path = images / 'config.py'
    path.write_text(text.replace("_base_ = '", f"_base_ = '{ROOT / folder}/"))
    cfg = Config.fromfile(path)
    data = cfg.train_dataloader.dataset.dataset
    data.data_root = str(images / data.data_root.removeprefix('data/'))
    return cfg


def train(cfg, work_dir, epochs=2, **loader):
    """Trains, and returns the Runner with what each step had."""
    seen = Seen()
    cfg.merge_from_dict(dict(
        optim_wrapper=dict(type='AUSAM', alpha=0.5, warmup_epochs=1),
        train_cfg=dict(max_epochs=epochs),
        train_dataloader=dict(batch_size=5, **loader),
        default_hooks=dict(checkpoint=None)))
    runner = Runner(
        cfg.model, str(work_dir), train_cfg=cfg.train_cfg,
        train_dataloader=cfg.train_dataloader,
        optim_wrapper=cfg.optim_wrapper,
        data_preprocessor=cfg.get('data_preprocessor'),
        default_hooks=cfg.default_hooks, custom_hooks=[seen],
        default_scope=cfg.default_scope, randomness=dict(seed=0),
        experiment_name=work_dir.name)
    runner.train()
    return runner, seen


def check_adlp(runner, seen):
    """The page's lines tell the ADLP of wrong samples from that of others."""
    history = runner.optim_wrapper.history
    wrong = {key: sample.wrong_label
             for key, sample in zip(seen.keys, seen.samples)}
    assert len(wrong) == SIZE and sum(wrong.values()) == 4
    expected = [history.means(torch.tensor(
        [key for key in wrong if wrong[key] is which])).mean()
        for which in (True, False)]
    assert all(torch.isfinite(mean) for mean in expected)
    printed = []
    exec(ADLP, dict(runner=runner, ausam_mm=ausam_mm,
                    print=lambda *means: printed.extend(means)))
    torch.testing.assert_close(printed, expected)


@pytest.mark.parametrize('workers', [0, 2])
def test_true_classes_reach_the_steps_of_mmpretrain(images, tmp_path,
                                                    workers):
    cfg = config(CLASSES, FOLDERS[0], images)
    runner, seen = train(
        cfg, tmp_path, num_workers=workers,
        batch_sampler=dict(type='AUSAMBatchSampler'))
    # All in the first epoch, two of five in each batch of the second.
    assert len(seen.samples) == 20 + 4 * 2
    for sample in seen.samples:
        assert sample.true_label == int(Path(sample.img_path).parent.name)
        assert (int(sample.gt_label) != sample.true_label) \
            == sample.wrong_label
        assert runner.train_dataloader.dataset.wrong[sample.sample_idx] \
            == sample.wrong_label
    check_adlp(runner, seen)


@pytest.mark.parametrize('kind', ['swap', 'jitter'])
def test_true_keypoints_reach_the_steps_of_mmpose(images, tmp_path, kind):
    cfg = config(KEYPOINTS, FOLDERS[1], images)
    cfg.train_dataloader.dataset.kind = kind
    content = json.loads((
        images / 'figures/annotations/figures_train.json').read_text())
    true = {person['id']: np.reshape(person['keypoints'], (1, 14, 3))[..., :2]
            for person in content['annotations']}
    # Without a flip, which would move the ones and not the others.
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    pipeline[:] = [step for step in pipeline if step.type != 'RandomFlip']
    runner, seen = train(
        cfg, tmp_path, batch_sampler=dict(type='AUSAMBatchSampler'))
    flip = runner.train_dataloader.dataset.metainfo['flip_indices']
    for sample in seen.samples:
        given = sample.gt_instances.keypoints
        np.testing.assert_allclose(
            sample.true_keypoints, true[sample.id], rtol=1e-5)
        if sample.wrong_label and kind == 'swap':
            np.testing.assert_allclose(
                given, true[sample.id][:, flip], rtol=1e-5)
        assert sample.wrong_label != np.allclose(given, sample.true_keypoints)
    check_adlp(runner, seen)


def test_the_targets_are_those_of_the_wrong_keypoints(images):
    cfg = config(KEYPOINTS, FOLDERS[1], images)
    cfg.train_dataloader.dataset.ratio = 1.
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    pipeline[:] = [step for step in pipeline if not
                   step.type.startswith('Random')]
    from mmpose.registry import DATASETS
    with DefaultScope.overwrite_default_scope('mmpose'):
        noisy = DATASETS.build(cfg.train_dataloader.dataset)
        clean = DATASETS.build(cfg.train_dataloader.dataset.dataset)
    flip = noisy.metainfo['flip_indices']
    for i in range(SIZE):
        wrong, true = (data[i]['data_samples'].gt_instance_labels
                       for data in (noisy, clean))
        assert torch.equal(wrong.keypoint_x_labels,
                           true.keypoint_x_labels[:, flip])


def test_noise_does_not_change_who_a_sample_is(images):
    cfg = config(CLASSES, FOLDERS[0], images)
    from mmpretrain.registry import DATASETS
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        noisy = DATASETS.build(cfg.train_dataloader.dataset)
        clean = DATASETS.build(cfg.train_dataloader.dataset.dataset)
    keys, others = (sample_keys(pseudo_collate([data[i] for i in range(SIZE)]))
                    for data in (noisy, clean))
    assert torch.equal(keys, others) and len(keys.unique()) == SIZE
