"""Rankings against computations by hand, and what is exported."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from cleanlab.rank import get_label_quality_scores
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData
from sklearn.metrics import average_precision_score
from torch import nn

from ausam_mm.analysis import evaluation as evaluation_module
from ausam_mm.analysis.commands import suspects as command
from ausam_mm.analysis.evaluation import (
    Evaluation,
    evaluate,
    evaluation_dataset,
)
from ausam_mm.analysis.export import (
    Suspect,
    write_csv,
    write_fiftyone,
    write_label_studio,
)
from ausam_mm.analysis.suspects import (
    curve,
    measure,
    order_of,
    rankings_of,
)
from ausam_mm.analysis.suspects_report import tables

from ..tools.test_tools import data, run  # noqa: F401
from .test_gradients import TOOL, loading  # noqa: F401
from .test_scores import training  # noqa: F401

NOTHING = torch.empty(0)


def average_precision(wrong, ranking):
    """The mean of the precisions at each wrong sample, from the definition."""
    order = sorted(range(len(wrong)), key=lambda i: -ranking[i])
    found, precisions = 0, []
    for looked_at, i in enumerate(order, 1):
        if wrong[i]:
            found += 1
            precisions.append(found / looked_at)
    return sum(precisions) / len(precisions)


def test_average_precision_and_curve_by_hand():
    wrong = torch.tensor([True, False, True, False, False, True])
    ranking = torch.tensor([6., 5., 4., 3., 2., 1.]).double()
    # Wrong ones at places 1, 3 and 6: precisions 1, 2/3 and 1/2.
    found = measure(wrong, ranking, 3)
    assert found['average_precision'] == pytest.approx(
        (1 + 2 / 3 + 1 / 2) / 3)
    assert found['precision'] == found['recall'] == pytest.approx(2 / 3)
    recall, precision = curve(wrong, ranking)
    expected = {(1 / 3, 1), (1 / 3, 1 / 2), (2 / 3, 2 / 3), (2 / 3, 2 / 4),
                (2 / 3, 2 / 5), (1, 3 / 6), (0, 1)}
    assert {(round(r, 6), round(p, 6)) for r, p in zip(recall, precision)
            } == {(round(r, 6), round(p, 6)) for r, p in expected}


def test_average_precision_of_many_samples():
    rng = np.random.default_rng(0)
    wrong = rng.random(300) < 0.3
    ranking = rng.standard_normal(300) + wrong
    found = measure(torch.tensor(wrong), torch.tensor(ranking), 50)
    assert found['average_precision'] == pytest.approx(
        average_precision(wrong, ranking))
    assert found['average_precision'] == pytest.approx(
        average_precision_score(wrong, ranking))
    top = np.argsort(-ranking)[:50]
    assert found['precision'] == pytest.approx(wrong[top].mean())
    assert found['recall'] == pytest.approx(wrong[top].sum() / wrong.sum())


def test_failed_samples_come_first_and_unknown_ones_last():
    ranking = torch.tensor([0.5, torch.nan, -torch.inf, 2., -3.]).double()
    assert order_of(ranking).tolist() == [2, 3, 0, 4, 1]
    wrong = torch.tensor([False, True, True, False, False])
    assert measure(wrong, ranking, 1)['recall'] == 0.5
    assert measure(wrong, ranking, 4)['recall'] == 0.5


def classes(number=40, count=4):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(
        number, count, generator=generator).mul(2).softmax(1)
    labels = torch.arange(number) % count
    return Evaluation(labels, probabilities, NOTHING, NOTHING, [])


def test_the_loss_ranks_as_the_default_of_cleanlab():
    one = classes()
    found = rankings_of(dict(ADLP=torch.arange(40.).double()), one)
    assert [*found] == ['ADLP', 'loss', 'cleanlab, margin',
                        'cleanlab, adjusted', 'cleanlab, entropy']
    torch.testing.assert_close(found['loss'], nn.functional.cross_entropy(
        one.probabilities.log().double(), one.labels, reduction='none'))
    quality = get_label_quality_scores(
        one.labels.numpy(), one.probabilities.numpy())
    assert order_of(found['loss']).tolist() == np.argsort(
        quality, kind='stable').tolist()
    p = one.probabilities.double()
    given = p.gather(1, one.labels[:, None])[:, 0]
    others = p.scatter(1, one.labels[:, None], -1.).max(1).values
    torch.testing.assert_close(  # its margin is (p - max other + 1) / 2
        found['cleanlab, margin'], 1 - (given - others + 1) / 2)


def test_without_cleanlab_and_without_a_table(monkeypatch):
    monkeypatch.setattr('ausam_mm.analysis.suspects.find_spec',
                        lambda name: None)
    assert [*rankings_of({}, classes())] == ['loss']
    assert [*rankings_of({'last loss': torch.ones(3)}, None)] == ['last loss']
    with pytest.raises(ValueError, match='pip install scikit-learn'):
        curve(torch.tensor([True]), torch.tensor([1.]))


def test_the_list_is_ranked_by_what_there_is():
    ones = dict.fromkeys(['ADLP', 'loss', 'cleanlab, margin'])
    assert command.choose(None, ones) == 'loss'
    assert command.choose('adlp', ones) == 'ADLP'
    assert command.choose(None, dict.fromkeys(['ADLP'])) == 'ADLP'
    assert command.choose(None, dict.fromkeys(
        ['ADLP', 'distance', 'left-right'])) == 'left-right'
    with pytest.raises(ValueError, match="'ADLP', 'loss'"):
        command.choose('margin', ones)


def test_checkpoints_are_compared_by_what_all_have():

    def checkpoint(name, **rankings):
        return dict(checkpoint=name, rankings=[
            dict(ranking=key, average_precision=value, precision=0.5,
                 recall=0.25) for key, value in rankings.items()])

    parts = tables(dict(
        settings=dict(first=10, by='loss'), samples=40, wrong=20, suspects=[
            dict(path='', index=3, label='', prediction='', wrong=True,
                 value=2.)],
        checkpoints=[checkpoint('a', ADLP=0.5, loss=0.9),
                     checkpoint('b', loss=0.7)]))
    compared, last, listed = (rows for _, rows, _ in parts)
    assert [row['loss'] for row in compared] == ['0.900', '0.700', '0.800']
    assert compared[-1]['ADLP'] == ''  # one of them has none
    assert [*last[-1].values()] == ['chance', '0.500', '50.0', '25.0']
    assert listed == [{
        'image': 'index 3', 'loss': '2', 'known to be': 'wrong'}]


class Predicting(nn.Module):
    """Predicts what it is given, as models of mmpretrain and mmpose do."""

    def test_step(self, batch):
        return batch


def person(points, labeled, visible, box, flip=(1, 0, 2)):
    one = BaseDataElement(metainfo=dict(
        ori_shape=(50, 100), flip_indices=flip))
    one.gt_instances = InstanceData(
        keypoints=np.array([labeled], 'float32'),
        keypoints_visible=np.array([visible], 'float32'),
        bboxes=np.array([box], 'float32'))
    one.pred_instances = InstanceData(
        keypoints=np.array([points], 'float32'))
    return one


def test_distances_of_poses_by_hand():
    points = [[10, 10], [20, 10], [15, 30]]
    swapped = [[20, 14], [10, 10], [15, 36]]
    found = evaluate(Predicting(), [[
        person(points, swapped, [1, 1, 1], [0, 0, 20, 40]),
        person(points, swapped, [1, 0, 1], [0, 0, 20, 40]),
        person(points, swapped, [0, 0, 0], [0, 0, 20, 40]),
        person(points, swapped, [1, 1, 1], [0, 0, 20, 40], None)]])
    # sqrt(116), 10 and 6 pixels of a box of 40; the second is not seen.
    assert found.distances[:2].tolist() == pytest.approx(
        [(116**0.5 + 16) / 3 / 40, (116**0.5 + 6) / 2 / 40])
    # With left and right exchanged 0, 4 and 6; now the first is not seen.
    assert found.exchanged[:2].tolist() == pytest.approx(
        [10 / 3 / 40, 10 / 2 / 40])
    assert math.isnan(found.distances[2]) and math.isnan(found.exchanged[3])
    ranking = rankings_of({}, found)
    assert [*ranking] == ['distance', 'left-right']
    assert order_of(ranking['left-right'])[0] == 0
    assert order_of(ranking['distance'])[-1] == 2


def test_predictions_that_do_not_suit_are_refused():
    many = BaseDataElement(
        pred_score=torch.ones(3) / 3, gt_label=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match='has 2: leave it out'):
        evaluate(Predicting(), [[many]])
    with pytest.raises(ValueError, match='Predicting does not predict'):
        evaluate(Predicting(), [[BaseDataElement()]])


def test_the_pipeline_is_that_of_the_validation(monkeypatch):
    monkeypatch.setattr(evaluation_module.DATASETS, 'build', lambda cfg: cfg)
    load, flip, pack = (dict(type=name) for name in (
        'LoadImage', 'RandomFlip', 'mmpose.PackPoseInputs'))
    convert = [dict(type='KeypointConverter')]
    joined = dict(type='CombinedDataset', pipeline=[load, flip, pack],
                  datasets=[dict(type='Coco', pipeline=convert)])
    cfg = Config(dict(
        default_scope='mmpose', train_dataloader=dict(dataset=joined),
        val_dataloader=dict(dataset=dict(
            type='Coco', pipeline=[load, pack]))))
    found, validation = evaluation_dataset(cfg)
    assert validation and [each.type for each in found.pipeline] == [
        'LoadImage', 'mmpose.PackPoseInputs']
    assert found.pipeline[-1].pack_transformed
    assert found.datasets[0].pipeline == convert  # what converts stays
    assert len(cfg.train_dataloader.dataset.pipeline) == 3
    cfg.pop('val_dataloader')
    found, validation = evaluation_dataset(cfg)
    assert not validation and len(found.pipeline) == 3


def test_lists_for_other_tools(tmp_path):
    pose = (np.array([[10., 20.], [30., 40.]]),
            np.array([[50., 25.], [0., 0.]]), np.array([True, False]),
            (50, 100))
    ones = [
        Suspect(1, 7, 'a/7.png', 'cat', 'dog', 0.75, dict(loss=2.5),
                wrong=True),
        Suspect(2, 3, '/b/3.png', '', values={'left-right': None}, pose=pose)]
    write_csv(ones, tmp_path / 'list.csv')
    rows = list(csv.reader((tmp_path / 'list.csv').open(newline='')))
    assert rows == [
        ['rank', 'index', 'path', 'label', 'prediction', 'loss', 'wrong'],
        ['1', '7', 'a/7.png', 'cat', 'dog', '2.5', '1'],
        ['2', '3', '/b/3.png', '', '', '', '']]
    write_fiftyone(ones, tmp_path / 'fiftyone', ['nose', 'tail'])
    first, second = json.loads((tmp_path / 'fiftyone' / 'samples.json'
                                ).read_text())['samples']
    assert first['filepath'].endswith('/a/7.png') and first['loss'] == 2.5
    assert first['ground_truth'] == dict(_cls='Classification', label='cat')
    assert first['prediction']['confidence'] == 0.75
    assert first['tags'] == ['wrong label'] and second['tags'] == []
    points = second['ground_truth_pose']['keypoints'][0]['points']
    assert points[0] == [0.5, 0.5] and math.isnan(points[1][0])
    assert second['prediction_pose']['keypoints'][0]['points'] == [
        [0.1, 0.4], [0.3, 0.8]]
    assert second['left_right'] is None
    write_label_studio(ones, tmp_path / 'tasks.json', ['nose', 'tail'])
    first, second = json.loads((tmp_path / 'tasks.json').read_text())
    assert first['data']['image'] == '/data/local-files/?d=a/7.png'
    assert second['data']['image'] == '/data/local-files/?d=b/3.png'
    assert [each['result'][0]['value'] for each in first['predictions']] == [
        dict(choices=['cat']), dict(choices=['dog'])]
    truth, predicted = (each['result'] for each in second['predictions'])
    assert len(truth) == 1 and len(predicted) == 2  # one is not labeled
    assert truth[0]['value'] == dict(
        x=50., y=50., width=1, keypointlabels=['nose'])
    assert truth[0]['original_width'] == 100


@pytest.mark.slow
def test_the_tool_ranks_a_training(
        training, data, tmp_path, monkeypatch, capsys):  # noqa: F811
    config, path = training / 'noisy.py', training / 'epoch_3.pth'
    output = run(TOOL, 'suspects', config, path, '--out', tmp_path / 'out',
                 '--export', 5, cwd=data)
    assert 'Wrong labels found: 26 of 64 samples, epoch_3' in output
    rows = list(csv.DictReader((tmp_path / 'out' / 'suspects.csv').open()))
    losses = [float(row['loss']) for row in rows]
    assert len(rows) == 64 and losses == sorted(losses, reverse=True)
    wrong = [row['wrong'] == '1' for row in rows]
    found, = json.loads((tmp_path / 'out' / 'summary.json').read_text())[
        'checkpoints']
    by = {row['ranking']: row for row in found['rankings']}
    assert by['loss']['recall'] == sum(wrong[:26]) / 26
    for name in ('ADLP', 'mean loss', 'loss'):
        assert by[name]['average_precision'] == pytest.approx(
            average_precision(wrong, [float(row[name]) for row in rows]),
            abs=0.02)  # six digits make ties
    assert len(json.loads((tmp_path / 'out' / 'label_studio.json'
                           ).read_text())) == 5
    for name in ('curves.png', 'gallery.png'):
        assert (tmp_path / 'out' / name).stat().st_size > 1000
    # The table alone: neither the model nor an image.
    monkeypatch.chdir(data)
    command.main([str(config), str(path), '--out', str(tmp_path / 'table'),
                  '--no-evaluation', '--cfg-options',
                  'model.type=NoSuchModel'])
    output = capsys.readouterr().out
    assert 'ranked by mean loss' in output and 'cleanlab' not in output
    command.main([str(config), str(path), '--out', str(tmp_path / 'table'),
                  '--no-evaluation', '--by', 'ADLP', '--cfg-options',
                  'model.type=NoSuchModel'])
    assert 'ranked by ADLP' in capsys.readouterr().out
    assert not (tmp_path / 'table' / 'gallery.png').exists()
    with pytest.raises(ValueError, match='take one of'):
        command.main([str(config), str(path), '--by', 'taste'])
