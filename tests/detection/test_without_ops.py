"""Detectors without compiled mmcv: what trains, and what is refused."""

import importlib
import sys

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from ausam_mm import compat_mmdet
from ausam_mm.compat import is_missing

from ..toy import wrap
from .detectors import WITH_RULES, batch, build, config

without_ops = pytest.mark.skipif(
    not is_missing('mmcv.ops'), reason='mmcv has its compiled ops')


@pytest.mark.parametrize('kind', [
    kind if kind == 'FCOS' else pytest.param(kind, marks=pytest.mark.slow)
    for kind in (*WITH_RULES, 'YOLOX')])
def test_detectors_train_and_predict(kind):
    """SAM without a radius is the base optimizer; with one it is not."""
    weights = []
    for options in (dict(type='OptimWrapper'), dict(type='SAM', rho=0.),
                    dict(type='SAM', rho=0.05)):
        model = build(kind)
        wrapper = wrap(model, lr=1e-3, **options)
        for seed in range(2):
            logged = model.train_step(batch(seed), wrapper)
            assert logged['loss'].isfinite()
        weights.append(torch.cat([p.detach().flatten()
                                  for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])

    model.train = torch.nn.Module.train.__get__(model)
    with torch.no_grad():
        found = model.eval().test_step(batch(5))
    assert len(found) == 4
    assert any(len(sample.pred_instances) for sample in found)


@without_ops
def test_the_stub_is_gone_after_the_import():
    build('RetinaNet')
    assert 'mmcv.ops' not in sys.modules
    with pytest.raises(ImportError):
        importlib.import_module('mmcv.ops')


@without_ops
def test_a_two_stage_detector_names_what_it_needs():
    build('RetinaNet')
    extractor = dict(
        type='SingleRoIExtractor', out_channels=8, featmap_strides=[8],
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0))
    with pytest.raises(ImportError, match='mmcv.ops.RoIAlign is needed here: '
                       'install mmcv with compiled ops'):
        MODELS.build(ConfigDict(
            _scope_='mmdet', type='FasterRCNN', backbone=config(
                'RetinaNet')['backbone'], rpn_head=None, roi_head=dict(
                    type='StandardRoIHead', bbox_roi_extractor=extractor,
                    bbox_head=dict(type='Shared2FCBBoxHead')),
            train_cfg=dict(rcnn=dict(assigner=None, sampler=None)),
            test_cfg=dict(rcnn=None)))


def plain_nms(boxes, scores, classes, threshold, offset):
    """The rule in a loop: the best goes first, and removes its neighbors."""
    left, kept = scores.argsort(descending=True).tolist(), []
    while left:
        best, *left = left
        kept.append(best)
        one = boxes[best]

        def overlap(i, one=one):
            other = boxes[i]
            sides = (torch.minimum(one[2:], other[2:])
                     - torch.maximum(one[:2], other[:2]) + offset).clamp(0)
            areas = [(box[2:] - box[:2] + offset).prod()
                     for box in (one, other)]
            return sides.prod() / (sum(areas) - sides.prod())

        left = [i for i in left if classes[i] != classes[best]
                or overlap(i) <= threshold]
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('agnostic', [False, True])
def test_boxes_are_suppressed_as_by_the_rule(offset, agnostic):
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(80, 2, generator=g) * 20
    boxes = torch.cat([corner, corner + 2 + torch.rand(
        80, 2, generator=g) * 12], 1)
    scores = torch.rand(80, generator=g)
    classes = torch.randint(0, 3, (80, ), generator=g)
    compared = torch.zeros_like(classes) if agnostic else classes
    expected = plain_nms(boxes, scores, compared, 0.3, offset)
    cfg = dict(type='nms', iou_threshold=0.3, offset=offset)
    found, kept = compat_mmdet.batched_nms(
        boxes, scores, classes, cfg, class_agnostic=agnostic)
    assert kept.tolist() == expected and 5 < len(kept) < 80
    assert torch.equal(found, torch.cat([boxes, scores[:, None]], 1)[kept])

    cfg.update(score_threshold=0.5, max_num=4, class_agnostic=agnostic)
    _, kept = compat_mmdet.batched_nms(boxes, scores, classes, cfg)
    assert kept.tolist() == [i for i in expected if scores[i] > 0.5][:4]
    if agnostic:
        _, kept = compat_mmdet.nms(boxes, scores, 0.3, offset)
        assert kept.tolist() == expected
    _, order = compat_mmdet.batched_nms(boxes, scores, classes, None)
    assert order.tolist() == scores.argsort(descending=True).tolist()


def test_what_torchvision_cannot_do_is_refused():
    boxes, scores = torch.rand(3, 4), torch.rand(3)
    with pytest.raises(ImportError, match='mmcv.ops.soft_nms is needed'):
        compat_mmdet.batched_nms(boxes, scores, scores.long(),
                                 dict(type='soft_nms'))
    with pytest.raises(ImportError, match='mmcv.ops.nms_rotated is needed'):
        compat_mmdet.batched_nms(torch.rand(3, 5), scores, scores.long(),
                                 dict(type='nms', iou_threshold=0.5))


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_the_focal_loss_of_gpus_is_that_of_cpus(reduction):
    """Against its formula, gradients too."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4, generator=g).double().requires_grad_()
    classes = torch.randint(0, 5, (20, ), generator=g)
    is_it = (classes[:, None] == torch.arange(4)).double()
    chance = torch.where(is_it > 0, logits.sigmoid(), (-logits).sigmoid())
    weight = torch.where(is_it > 0, 0.3, 0.7)
    expected = -weight * (1 - chance)**1.5 * chance.log()
    expected = dict(none=expected, sum=expected.sum(),
                    mean=expected.sum() / 20)[reduction]
    found = compat_mmdet.sigmoid_focal_loss(
        logits, classes, 1.5, 0.3, None, reduction)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(
        torch.autograd.grad(each.sum(), logits)[0]
        for each in (found, expected)))


@pytest.mark.skipif(not is_missing('imgaug'), reason='imgaug is installed')
def test_what_needs_imgaug_is_refused_by_name():
    """The other transforms are imported without it."""
    import ausam_mm  # noqa: F401
    transforms = importlib.import_module(
        'mmdet.datasets.transforms.generate_line')
    assert not [name for name in sys.modules if name.startswith('imgaug')]
    with pytest.raises(ImportError, match='LineString.*install `imaug`'):
        transforms.LineString([(0, 0), (1, 1)])


@without_ops
def test_a_part_of_the_ops_names_the_same_remedy():
    with pytest.raises(ImportError, match='mmcv.ops.carafe.CARAFE is needed'):
        compat_mmdet.stand_in('mmcv.ops.carafe').CARAFE()
