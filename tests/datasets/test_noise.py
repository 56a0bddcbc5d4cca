"""Exactly the wanted samples are wrong, and always the same ones."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
    pseudo_collate,
)
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader, Subset

from ausam_mm import KeypointNoise, LabelNoise, wrong_samples
from ausam_mm.sampling.origins import Origins

FLIP = [1, 0, 2, 4, 3]


class Classes(BaseDataset):
    """Samples of five classes, with the label of each in its data, too."""

    METAINFO = dict(classes=tuple('abcde'))

    def __init__(self, size=40, **kwargs):
        self.size = size
        super().__init__(**kwargs)

    def load_data_list(self):
        return [dict(gt_label=i * 7 % 5) for i in range(self.size)]

    def get_cat_ids(self, idx):
        return [self.get_data_info(idx)['gt_label']]

    def get_gt_labels(self):
        return np.array([self.get_data_info(i)['gt_label']
                         for i in range(len(self))])


class Poses(BaseDataset):
    """Images of two persons with five keypoints, of which some are hidden."""

    def load_data_list(self):
        rng = np.random.default_rng(0)
        corner = rng.uniform(0, 50, (40, 2, 2))
        sizes = rng.uniform(20, 60, (40, 2, 2))
        return [dict(
            keypoints=(low[:, None] + size[:, None] * rng.uniform(
                0, 1, (2, 5, 2))).astype('float32'),
            keypoints_visible=(rng.uniform(0, 1, (2, 5)) < 0.8).astype(
                'float32'),
            bbox=np.hstack([low, low + size]).astype('float32'),
            flip_indices=FLIP) for low, size in zip(corner, sizes)]


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def labels(dataset):
    return [info['gt_label'] for info in infos(dataset)]


def keypoints(dataset):
    return np.stack([info['keypoints'] for info in infos(dataset)])


@pytest.mark.parametrize('ratio', [0, 0.29, 0.5, 0.51, 1])
@pytest.mark.parametrize('size', [1, 7, 40, 100])
def test_exactly_the_ratio_is_wrong(ratio, size):
    noisy = LabelNoise(Classes(size), ratio)
    wrong = [info['gt_label'] != info['true_label'] for info in infos(noisy)]
    assert sum(wrong) == round(ratio * size)
    assert noisy.wrong.tolist() == wrong
    assert [info['wrong_label'] for info in infos(noisy)] == wrong
    assert labels(Classes(size)) == [
        info['true_label'] for info in infos(noisy)]


@pytest.mark.parametrize('kind', LabelNoise.kinds)
def test_a_lower_ratio_is_a_part_of_a_higher_one(kind):
    few, many = (LabelNoise(Classes(), ratio, kind) for ratio in (0.2, 0.5))
    assert few.wrong.sum() == 8 and many.wrong[few.wrong].all()
    both = zip(labels(few), labels(many), few.wrong)
    assert all(one == other for one, other, wrong in both if wrong)


def test_another_seed_is_another_noise():
    one, other = (LabelNoise(Classes(), 1., seed=seed) for seed in (0, 1))
    assert labels(one) != labels(other)
    one, other = (LabelNoise(Classes(), 0.5, seed=seed) for seed in (0, 1))
    assert one.wrong.tolist() != other.wrong.tolist()


def test_a_mask_that_is_changed_changes_no_labels():
    noisy = LabelNoise(Classes(), 0.5)
    before = labels(noisy)
    noisy.wrong.fill_(True)
    assert labels(noisy) == before and noisy.wrong.sum() == 20


def test_uniform_takes_each_other_class_equally_often():
    noisy = LabelNoise(Classes(4000), 1.)
    counts = np.zeros((5, 5), int)
    for info in infos(noisy):
        counts[info['true_label'], info['gt_label']] += 1
    assert (counts.diagonal() == 0).all()
    # Of 800 samples 200 each, with a standard deviation of 12.2.
    others = counts[~np.eye(5, dtype=bool)]
    assert others.sum() == 4000 and (abs(others - 200) < 50).all()


def test_pairwise_takes_the_next_class():
    given = labels(LabelNoise(Classes(), 1., 'pairwise'))
    assert given == [(label + 1) % 5 for label in labels(Classes())]
    assert {type(label) for label in given} == {int}


def test_num_classes_stands_in_for_names():
    noisy = LabelNoise(Classes(metainfo=dict(classes=())), 1., num_classes=50)
    assert max(labels(noisy)) >= 5


def test_swap_exchanges_left_and_right():
    noisy = KeypointNoise(Poses(), 0.5, 'swap')
    assert noisy.wrong.sum() == 20
    for info, true, wrong in zip(infos(noisy), infos(Poses()), noisy.wrong):
        for name in ('keypoints', 'keypoints_visible'):
            assert (info[f'true_{name}'] == true[name]).all()
            for person in range(2):
                for k in range(5):
                    source = FLIP[k] if wrong else k
                    assert (info[name][person, k]
                            == true[name][person, source]).all()


def test_jitter_has_the_standard_deviation_of_the_scale():
    steps, hidden = [], []
    for info in infos(KeypointNoise(Poses(), 1., 'jitter', scale=0.2)):
        for person in range(2):
            left, top, right, bottom = info['bbox'][person]
            side = max(right - left, bottom - top)
            for k in range(5):
                step = (info['keypoints'] - info['true_keypoints'])[person, k]
                seen = info['keypoints_visible'][person, k] > 0
                (steps if seen else hidden).append(step / side)
    # About 640 normal numbers: their standard deviation is known to 2.8 %.
    assert len(steps) > 300 and abs(np.mean(steps)) < 0.03
    assert abs(np.std(steps) - 0.2) < 0.02
    assert len(hidden) > 40 and not np.any(hidden)


def test_uniform_keypoints_fill_the_box():
    places = []
    for info in infos(KeypointNoise(Poses(), 1., 'uniform')):
        assert info['keypoints'].dtype == np.float32
        for person in range(2):
            left, top, right, bottom = info['bbox'][person]
            for k in range(5):
                x, y = info['keypoints'][person, k]
                if info['keypoints_visible'][person, k] > 0:
                    places.append([(x - left) / (right - left),
                                   (y - top) / (bottom - top)])
                else:
                    assert (x, y) == tuple(info['true_keypoints'][person, k])
    assert -1e-5 < np.min(places) < 0.02 and 0.98 < np.max(places) < 1 + 1e-5
    # Standard errors: 0.012 for a quarter of each side.
    for side in np.transpose(places):
        counts = np.histogram(side, bins=4, range=(0, 1))[0] / len(side)
        assert (abs(counts - 0.25) < 0.08).all()


def test_visibility_with_weights_tells_what_is_hidden():
    class Weighted(Poses):

        def load_data_list(self):
            return [dict(info, keypoints_visible=np.stack(
                [info['keypoints_visible'], np.ones((2, 5), 'float32')], -1))
                    for info in super().load_data_list()]

    for kind in KeypointNoise.kinds:
        assert (keypoints(KeypointNoise(Weighted(), 1., kind))
                == keypoints(KeypointNoise(Poses(), 1., kind))).all()


@pytest.mark.parametrize('kind', KeypointNoise.kinds)
def test_the_true_keypoints_survive_a_pipeline_that_moves_in_place(kind):
    def move(info):
        info['keypoints'] += 1000
        return info

    noisy = KeypointNoise(Poses(pipeline=[move]), 0.5, kind)
    true = keypoints(Poses())
    for _ in range(2):
        assert all((noisy[i]['true_keypoints'] == true[i]).all()
                   for i in range(40))


@pytest.mark.parametrize('make', [
    lambda: LabelNoise(Classes(), 0.5),
    lambda: KeypointNoise(Poses(), 0.5, 'jitter')])
@pytest.mark.parametrize('workers', [
    dict(), dict(num_workers=2),
    pytest.param(dict(num_workers=1, multiprocessing_context='spawn',
                      persistent_workers=True),
                 marks=pytest.mark.slow)], ids=['none', 'fork', 'spawn'])
def test_workers_orders_and_epochs_change_nothing(make, workers):
    noisy = make()
    key = 'gt_label' if isinstance(noisy, LabelNoise) else 'keypoints'
    expected = {i: info[key] for i, info in enumerate(infos(make()))}
    loader = DataLoader(noisy, batch_size=6, shuffle=True,
                        collate_fn=pseudo_collate, **workers)
    for _ in range(2):
        seen = {}
        for batch in loader:
            seen.update(zip(batch['sample_idx'], batch[key]))
        assert seen.keys() == expected.keys()
        assert all(np.array_equal(seen[i], expected[i]) for i in expected)


def test_the_noise_of_a_seed_stays_the_same():
    given = labels(LabelNoise(Classes(10), 0.5, seed=3))
    assert given == [4, 4, 3, 1, 3, 0, 1, 4, 1, 4]
    moved = keypoints(KeypointNoise(Poses(), 0.5, 'uniform', seed=3))
    assert moved.sum() == pytest.approx(38256.41, rel=1e-5)


@pytest.mark.parametrize('again', [
    copy.deepcopy, lambda noisy: pickle.loads(pickle.dumps(noisy))],
    ids=['deepcopy', 'pickle'])
def test_a_copy_has_the_same_labels(again):
    noisy = LabelNoise(Classes(), 0.5)
    other = again(noisy)
    assert labels(other) == labels(noisy)
    assert [other[i]['gt_label'] for i in range(40)] == labels(noisy)


def test_samples_and_annotations_and_classes_have_one_label():
    noisy = LabelNoise(Classes(), 0.5)
    given = labels(noisy)
    assert given != labels(Classes())
    assert [noisy[i]['gt_label'] for i in range(40)] == given
    assert [noisy.get_cat_ids(i) for i in range(40)] == [
        [label] for label in given]
    assert noisy.get_gt_labels().tolist() == given
    assert noisy[-1] == noisy[39] and noisy.get_data_info(-9) == noisy[31]
    with pytest.raises(IndexError):
        noisy.get_data_info(40)


def test_a_given_data_set_stays_as_it_is():
    clean = Classes()
    before = labels(clean)
    noisy = LabelNoise(clean, 1.)
    assert labels(clean) == before
    assert all('true_label' not in clean[i] for i in range(40))
    assert not any(one == other for one, other in zip(before, labels(noisy)))


def test_annotations_may_be_read_later():
    clean = Classes(lazy_init=True)
    noisy = LabelNoise(clean, 0.5, lazy_init=True)
    assert noisy.metainfo['classes'] == tuple('abcde')
    assert not clean.data_list and not noisy.dataset.data_list
    assert len(noisy) == 40
    assert labels(noisy) == labels(LabelNoise(Classes(), 0.5))


def test_a_pipeline_that_a_hook_sets_is_used():
    noisy = LabelNoise(Classes(), 0.5)
    noisy.pipeline = lambda info: info['sample_idx'] + 100
    assert noisy[3] == 103


def joined():
    """Noise, true labels, and noise with copies, of 10, 5, and 40 indices."""
    def noise(size, seed):
        return dict(type='LabelNoise', ratio=0.3, seed=seed,
                    dataset=Classes(size, serialize_data=False))
    return ConcatDataset([
        noise(10, 0), Classes(5), dict(
            type='RepeatDataset', times=2, dataset=noise(20, 1))])


def test_wrong_samples_are_found_in_what_joins_and_repeats():
    dataset = joined()
    wrong = wrong_samples(dataset)
    assert wrong.dtype == torch.bool and wrong.shape == (55, )
    assert wrong.tolist() == [
        dataset[i].get('wrong_label', False) for i in range(55)]
    assert wrong.sum() == 3 + 2 * 6
    # Copies are one sample.
    numbers = Origins(dataset).of(torch.arange(55))
    assert len(numbers.unique()) == 35
    assert len({(int(number), bool(one))
                for number, one in zip(numbers, wrong)}) == 35


def test_classes_are_balanced_as_labeled():
    given = labels(LabelNoise(Classes(metainfo=dict(classes=range(50))), 0.5))
    balanced = ClassBalancedDataset(dict(
        type='LabelNoise', ratio=0.5,
        dataset=Classes(metainfo=dict(classes=range(50)))), 0.1)
    rare = [label for label in given if given.count(label) == 1]
    # They come at sqrt(0.1 / (1 / 40)) = 2 times as often.
    assert len(rare) > 3
    for label in rare:
        assert sum(balanced[i]['gt_label'] == label
                   for i in range(len(balanced))) == 2
    assert wrong_samples(balanced).tolist() == [
        balanced[i]['wrong_label'] for i in range(len(balanced))]


def test_wrong_samples_are_found_in_a_combined_dataset():
    mmpose = pytest.importorskip('mmpose.datasets')
    coco = mmpose.CocoDataset.METAINFO
    parts = [dict(type='KeypointNoise', dataset=Poses(), ratio=0.25,
                  seed=seed) for seed in (0, 1)]
    combined = mmpose.CombinedDataset(coco, parts)
    assert wrong_samples(combined).sum() == 20
    assert wrong_samples(combined).tolist() == [
        combined[i]['wrong_label'] for i in range(80)]
    resampled = mmpose.CombinedDataset(
        coco, parts, sample_ratio_factor=[1., 0.5])
    with pytest.raises(ValueError, match='leave sample_ratio_factor out'):
        wrong_samples(resampled)


def test_wrong_samples_are_not_guessed():
    with pytest.raises(ValueError, match='index of a Subset stands for'):
        wrong_samples(Subset(LabelNoise(Classes(), 0.5), [1, 2]))


def test_a_subset_is_taken_inside():
    noisy = LabelNoise(Classes(indices=10), 0.5)
    assert len(noisy) == 10 and noisy.wrong.sum() == 5
    for name in ('get_subset', 'get_subset_'):
        with pytest.raises(NotImplementedError, match='set `indices`'):
            getattr(noisy, name)(5)


@pytest.mark.parametrize(('options', 'sentence'), [
    (dict(ratio=1.2), 'give LabelNoise 0 <= ratio <= 1'),
    (dict(ratio=True), 'ratio=True is no ratio'),
    (dict(ratio=float('nan')), 'ratio=nan is no ratio'),
    (dict(kind='swap'), "kind='swap' is unknown: set one of 'uniform', "
     "'pairwise'"),
    (dict(seed=-1), 'seed=-1 must be an integer of at least 0'),
    (dict(seed=None), 'seed=None must be an integer'),
    (dict(num_classes=1), 'num_classes=1 must be an integer of at least 2'),
    (dict(num_classes=3), 'gt_label to be one of 3 classes, and sample .* of '
     'the Classes has gt_label=[34]'),
    (dict(dataset=Classes(metainfo=dict(classes=()))),
     'the Classes has 0 classes: give LabelNoise num_classes'),
    (dict(dataset=Poses(), num_classes=5),
     'sample 0 of the Poses has gt_label=None'),
    (dict(dataset=RepeatDataset(Classes(), 2)),
     'which a RepeatDataset is not: put LabelNoise around'),
    (dict(dataset=LabelNoise(Classes(), 0.5)),
     'which a LabelNoise is not'),
])
def test_bad_label_noise_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        infos(LabelNoise(**dict(dict(dataset=Classes(), ratio=1.), **options)))


class Changed(Poses):
    """Poses with other values; None takes a key away."""

    def __init__(self, **changes):
        self.changes = changes
        super().__init__()

    def load_data_list(self):
        return [{key: value for key, value in dict(
            info, **self.changes).items() if value is not None}
            for info in super().load_data_list()]


@pytest.mark.parametrize(('options', 'sentence'), [
    (dict(kind='pairwise'), "set one of 'swap', 'jitter', 'uniform'"),
    (dict(scale=0), 'scale=0 is no part of the box'),
    (dict(scale=float('inf')), 'scale=inf is no part of the box'),
    (dict(dataset=Classes()), 'sample 0 of the Classes has no keypoints: use'),
    (dict(dataset=Changed(bbox=None)), 'sample 0 of the Changed has no bbox'),
    (dict(dataset=Changed(keypoints=np.zeros((1, 5, 3)))),
     r'sample 0 of the Changed has \(1, 5, 3\): use a data set of 2D poses'),
    (dict(dataset=Changed(flip_indices=None)), 'Changed has no flip_indices'),
    (dict(dataset=Changed(flip_indices=[0, 1, 2, 3, 4])),
     "set `swap` in its metainfo, or kind='jitter'"),
])
def test_bad_keypoint_noise_is_refused_at_once(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        KeypointNoise(**dict(dict(dataset=Poses(), ratio=1.), **options))


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain', 'mmpose'])
def test_the_names_are_known_in_every_scope(scope):
    pytest.importorskip(scope)
    for name, kind in (('LabelNoise', LabelNoise),
                       ('KeypointNoise', KeypointNoise)):
        with DATASETS.switch_scope_and_registry(scope) as registry:
            assert registry.get(name) is kind
