"""What stands in for xtcocotools gives xtcocotools' figures."""

import importlib
import importlib.machinery
import json
import sys

import numpy as np
import pytest

import ausam_mm  # noqa: F401
from tests.test_compat import run

PARTS = {'keypoints': 17, 'foot_kpts': 6, 'face_kpts': 9, 'lefthand_kpts': 5,
         'righthand_kpts': 5}
# By the type of evaluation, how many keypoints it looks at.
TYPES = {'keypoints': 17, 'keypoints_body': 17, 'keypoints_crowd': 17,
         'keypoints_foot': 6, 'keypoints_face': 9, 'keypoints_lefthand': 5,
         'keypoints_righthand': 5, 'keypoints_wholebody': 42}


def modules(package):
    return tuple(importlib.import_module(f'{package}.{name}')
                 for name in ('coco', 'cocoeval'))


@pytest.fixture
def ours():
    pytest.importorskip('pycocotools')
    return modules('ausam_mm.xtcocotools')


@pytest.fixture
def theirs():
    if importlib.machinery.PathFinder.find_spec('xtcocotools') is None:
        pytest.skip('xtcocotools is not installed')
    return modules('xtcocotools')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """People with ids from 0, crowds, hidden parts; results near them."""
    rng = np.random.default_rng(0)
    truths, results = [], []
    for image in range(12):
        for _ in range(rng.integers(1, 5)):
            x, y, w, h = rng.uniform(20, 180, 4)
            truth = dict(id=len(truths), image_id=image, category_id=1,
                         bbox=[x, y, w, h], area=w * h * rng.uniform(.4, .8))
            if rng.random() < .2:
                truth['iscrowd'] = 1
            result = dict(image_id=image, category_id=1, score=rng.random())
            if rng.random() < .5:
                result['face_score'] = rng.random()
            noise = rng.choice([.01, .05, .2])
            for part, number in PARTS.items():
                points = rng.uniform(size=(number, 2)) * (w, h) + (x, y)
                seen = rng.integers(0, 3, number) * (rng.random() < .8)
                if rng.random() < .2:  # hidden: CrowdPose counts none
                    seen = seen.clip(max=1)
                near = points + rng.normal(size=(number, 2)) * noise * w
                score = rng.random(number) * (rng.random() < .8)
                truth[part] = np.c_[points, seen].ravel().tolist()
                result[part] = np.c_[near, score].ravel().tolist()
            truth['num_keypoints'] = truth['keypoints'][2::3].count(2)
            truths.append(truth)
            results += [result] * (rng.random() < .8)
            if rng.random() < .3:  # found twice
                results.append({**result, 'score': rng.random()})
    folder = tmp_path_factory.mktemp('coco')
    (folder / 'truths.json').write_text(json.dumps(dict(
        images=[dict(id=i, width=400, height=400, crowdIndex=i / 12)
                for i in range(12)],
        categories=[dict(id=1, name='person')], annotations=truths)))
    (folder / 'results.json').write_text(json.dumps(results))
    (folder / 'none.json').write_text('[]')
    return folder


def figures(package, files, *, results='results', keypoints=17, **options):
    coco, cocoeval = package
    truth = coco.COCO(str(files / 'truths.json'))
    found = truth.loadRes(str(files / f'{results}.json'))
    sigmas = np.linspace(.025, .1, keypoints)
    evaluation = cocoeval.COCOeval(truth, found, sigmas=sigmas, **options)
    evaluation.params.useSegm = None
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return np.array(evaluation.stats)


@pytest.mark.parametrize('use_area', [True, False])
@pytest.mark.parametrize('kind', TYPES)
def test_figures_equal_those_of_xtcocotools(
        ours, theirs, files, kind, use_area):
    options = dict(iouType=kind, keypoints=TYPES[kind], use_area=use_area)
    expected = figures(theirs, files, **options)
    assert np.array_equal(figures(ours, files, **options), expected)
    assert len(expected) == (9 if kind == 'keypoints_crowd' else 10)
    assert .05 < expected[0] < .95


def test_a_model_that_finds_nobody_has_no_precision(ours, theirs, files):
    expected = figures(theirs, files, results='none')
    assert np.array_equal(figures(ours, files, results='none'), expected)
    assert expected.max() == 0


def test_boxes_and_masks_are_refused_by_name(ours):
    with pytest.raises(ValueError, match="iou_type='bbox' is no type of key"):
        ours[1].COCOeval(None, None, 'bbox')


HIDDEN = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name == 'xtcocotools'
    else find(name, *rest))
"""


def test_mmpose_gets_it_where_xtcocotools_is_missing(ours):
    out = run(HIDDEN + """
import ausam_mm
from mmpose.datasets.datasets.base import base_coco_style_dataset
from mmpose.datasets.transforms import bottomup_transforms
from mmpose.evaluation.metrics import coco_metric
print(base_coco_style_dataset.COCO.__module__,
      bottomup_transforms.cocomask.__name__,
      coco_metric.COCOeval.__module__)
print(coco_metric.COCOeval.__mro__[1].__module__)
""")
    assert out == ['xtcocotools.coco xtcocotools.mask xtcocotools.cocoeval',
                   'pycocotools.cocoeval']


def test_an_installed_xtcocotools_comes_first(ours, tmp_path, monkeypatch):
    package = tmp_path / 'xtcocotools'
    package.mkdir()
    (package / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    finders = [finder for finder in sys.meta_path
               if finder.find_spec('xtcocotools', None)]
    first = finders[0].find_spec('xtcocotools', None)
    assert first.origin == str(package / '__init__.py')
    assert len(finders) == 2  # ours would be next
