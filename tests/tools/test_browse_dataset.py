"""What is drawn is what the network is given."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from tools.visualization import browse_dataset

from .test_tools import ROOT, data, run  # noqa: F401

BROWSE = ROOT / 'tools' / 'visualization' / 'browse_dataset.py'
POSE = 'configs/pose/figures/simcc_res18-c16_b64_figures-64x64.py'
DIGITS = 'configs/classification/digits/resnet18-c16_b64_digits.py'


def test_joints_appear_where_the_annotations_have_them(data, monkeypatch):  # noqa: F811
    monkeypatch.chdir(data)
    cfg = Config.fromfile(ROOT / POSE)
    browser = browse_dataset.Browser(cfg, 'train')
    np.random.seed(0)
    sample = browser.dataset[0]
    drawn = browser.transformed(sample)
    assert drawn.shape == (256, 256, 3)  # 64 pixels, enlarged
    instances = sample['data_samples'].gt_instances
    colors = browser.dataset.metainfo['keypoint_colors']
    hits = [np.abs(drawn[y, x].astype(int) - color).max() < 40
            for (x, y), color in zip(
                (4 * instances.transformed_keypoints[0]).astype(int), colors)
            if 0 <= x < 256 and 0 <= y < 256]
    assert len(hits) >= 10 and np.mean(hits) > 0.8


def test_a_red_frame_marks_wrong_labels(data, monkeypatch):  # noqa: F811
    monkeypatch.chdir(data)
    cfg = Config.fromfile(ROOT / DIGITS)
    cfg.train_dataloader.dataset = dict(
        type='LabelNoise', ratio=0.5, dataset=cfg.train_dataloader.dataset)
    browser = browse_dataset.Browser(cfg, 'train')
    wrong = browser.dataset.wrong[:10].tolist()
    assert 0 < sum(wrong) < 10
    for mode in ('transformed', 'original', 'concat'):
        images = [browser.draw(i, mode) for i in range(10)]
        corners = [image[[0, -1]][:, [0, -1]] for image in images]
        assert [bool((corner == (255, 0, 0)).all())
                for corner in corners] == wrong


@pytest.mark.slow
def test_both_tasks_and_all_modes(data, tmp_path):  # noqa: F811
    sizes = {}
    for config, mode in ((POSE, 'concat'), (POSE, 'original'),
                         (DIGITS, 'transformed'), (DIGITS, 'concat')):
        out = tmp_path / f'{mode}{len(sizes)}'
        run(BROWSE, ROOT / config, '-n', 2, '--not-show', '-m', mode,
            '-o', out, '--phase', 'train', cwd=data)
        assert [path.name for path in sorted(out.iterdir())] == [
            '000000.png', '000001.png']
        sizes[config, mode] = cv2.imread(str(out / '000000.png')).shape[:2]
    assert sizes[DIGITS, 'transformed'] == (256, 256)
    assert sizes[DIGITS, 'concat'] == (256, 512)
    assert sizes[POSE, 'concat'][1] > sizes[POSE, 'original'][1]


@pytest.mark.slow
def test_nothing_to_see_is_said(tmp_path):
    output = run(BROWSE, ROOT / DIGITS, '--not-show', cwd=tmp_path, ok=False)
    assert '--not-show needs --output-dir' in output
