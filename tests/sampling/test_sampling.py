"""Selections follow their probabilities; batches are cut right."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mmengine.structures import BaseDataElement
from scipy.stats import chisquare

from ausam_mm.sampling import (
    Selection,
    batch_size,
    favoring_low,
    inclusion_probabilities,
    num_selected,
    sample_keys,
    sample_multinomial,
    sample_systematic,
    select_highest,
    selection_probabilities,
    take,
)

positive = hnp.arrays(
    np.float64,
    st.integers(1, 40),
    elements=st.floats(1e-3, 1e3, allow_nan=False))


def test_probabilities_are_linear_between_the_lowest_and_highest():
    nan = float('nan')
    scores = torch.tensor([2., 4., 3., nan])
    q = selection_probabilities(scores, 0.1, 0.5)
    torch.testing.assert_close(
        q, torch.tensor([0.1, 0.5, 0.3, 0.5], dtype=torch.double))


@pytest.mark.parametrize('scores', [[3., 3.], [float('nan')] * 2,
                                    [0., float('nan')]])
def test_equal_scores_are_equally_probable(scores):
    q = selection_probabilities(torch.tensor(scores), 0.1, 0.5)
    assert q[0] == q[1] > 0


def test_scores_turned_around_favor_the_lowest():
    nan, inf = float('nan'), float('inf')
    scores = torch.tensor([2., 4., 3., nan, -inf], dtype=torch.double)
    q = selection_probabilities(favoring_low(scores), 0.1, 0.5)
    torch.testing.assert_close(
        q, torch.tensor([0.5, 0.1, 0.3, 0.5, 0.1], dtype=torch.double))
    selection = select_highest(favoring_low(scores), 1, 3)
    assert selection.ascent.tolist() == [3]  # never used
    assert selection.descent.tolist() == [0, 2, 3]
    last = select_highest(favoring_low(scores), 1, 4)
    assert last.descent.tolist() == [0, 1, 2, 3]
    assert scores[:3].tolist() == [2., 4., 3.]


def test_multinomial_sampling_follows_the_probabilities():
    """Chi-square of the first samples against q, and of all pairs."""
    q = torch.tensor([0.1, 0.2, 0.3, 0.5])
    generator = torch.Generator().manual_seed(0)
    first, subsets = np.zeros(4), {}
    for _ in range(20000):
        pair = sample_multinomial(q, 2, generator).tolist()
        assert len(set(pair)) == 2
        first[pair[0]] += 1
        key = tuple(sorted(pair))
        subsets[key] = subsets.get(key, 0) + 1
    p = (q / q.sum()).double().numpy()
    assert chisquare(first, 20000 * p / p.sum()).pvalue > 1e-3
    # P{i, j} = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j)
    expected = {(i, j): p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
                for i in range(4) for j in range(i + 1, 4)}
    observed = np.array([subsets.get(key, 0) for key in expected])
    theory = np.array(list(expected.values()))
    assert chisquare(observed, 20000 * theory / theory.sum()).pvalue > 1e-3


@settings(deadline=None, max_examples=200)
@given(positive, st.data())
def test_inclusion_probabilities_sum_to_k_and_are_proportional(q, data):
    q = torch.from_numpy(q)
    k = data.draw(st.integers(1, len(q)))
    pi = inclusion_probabilities(q, k)
    assert pi.sum().item() == pytest.approx(k)
    assert (pi > 0).all() and (pi <= 1).all()
    below = pi < 1 - 1e-9
    if below.any():
        c = pi[below] / q[below]
        assert torch.allclose(c, c[0].expand_as(c), rtol=1e-6)
        # What is certain would have been above 1.
        assert (c[0] * q[~below] >= 1 - 1e-6).all()
    selected = sample_systematic(pi)
    assert len(selected) == len(set(selected.tolist())) == k
    certain = (~below).nonzero().flatten().tolist()
    assert set(certain) <= set(selected.tolist())


def test_systematic_sampling_has_exactly_its_inclusion_probabilities():
    pi = inclusion_probabilities(
        torch.tensor([0.05, 0.4, 0.1, 0.2, 0.9, 0.3, 0.15]), 3)
    generator = torch.Generator().manual_seed(0)
    runs = 20000
    counts = torch.zeros(7, dtype=torch.double)
    for _ in range(runs):
        counts[sample_systematic(pi, generator)] += 1
    error = (pi * (1 - pi) / runs).sqrt()
    assert ((counts / runs - pi).abs() <= 4 * error + 1e-12).all()


@pytest.mark.parametrize('ratio,size,expected', [
    (0.5, 256, 128), (0.29, 100, 29), (0.5, 1, 1), (0.1, 5, 1),
    (0.6, 5, 3), (1., 7, 7), (0.5, 5, 2)])
def test_the_number_selected_is_rounded_down_but_at_least_1(
        ratio, size, expected):
    assert num_selected(ratio, size) == expected


@pytest.mark.parametrize('disjoint, seen', [
    (False, [0, 2, 5]),
    (True, [0, 1, 2, 4, 5]),
])
def test_a_selection_knows_what_either_pass_sees(disjoint, seen):
    ascent = [1, 4] if disjoint else [0, 5]
    selection = Selection(
        6, torch.tensor([0, 2, 5]), torch.tensor(ascent), disjoint=disjoint)
    assert selection.seen.tolist() == seen
    assert not selection.same_samples


def test_parts_of_one_size_are_not_the_same_samples():
    one, two = torch.tensor([0, 3]), torch.tensor([1, 2])
    assert not Selection(4, one, two, disjoint=True).same_samples
    assert Selection(4, one, one).same_samples


def elements(size, **meta):
    return [BaseDataElement(metainfo=dict(sample_idx=i, **meta))
            for i in range(size)]


@settings(deadline=None)
@given(st.integers(1, 6), st.data())
def test_tensors_lists_and_tuples_are_cut_to_the_same_samples(size, data):
    index = torch.tensor(
        sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1))))
    images = torch.arange(size * 12.).view(size, 3, 2, 2)
    stacked = dict(inputs=images, data_samples=elements(size))
    listed = dict(inputs=list(images), data_samples=elements(size))
    pair = (images, torch.arange(size))
    for batch in (stacked, listed, pair):
        assert batch_size(batch) == size
        cut = take(batch, index, size)
        assert type(cut) is type(batch)
        inputs = cut['inputs'] if isinstance(cut, dict) else cut[0]
        for wanted, got in zip(index.tolist(), inputs):
            assert torch.equal(got, images[wanted])
        assert len(inputs) == len(index)
        labels = [s.sample_idx for s in cut['data_samples']] if isinstance(
            cut, dict) else cut[1].tolist()
        assert labels == index.tolist()


def test_several_views_of_a_batch_are_cut_alike():
    views = [torch.arange(5.), torch.arange(5.) + 10]
    batch = dict(inputs=views, data_samples=elements(5))
    cut = take(batch, torch.tensor([1, 4]), batch_size(batch))
    assert [v.tolist() for v in cut['inputs']] == [[1., 4.], [11., 14.]]


def test_inputs_and_data_samples_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r'\[4\] samples but 3 data samples'):
        batch_size(dict(inputs=torch.rand(4, 3), data_samples=elements(3)))
    with pytest.raises(ValueError, match='collate_fn'):
        batch_size(
            dict(
                inputs=[torch.rand(3, 8, 8)] * 4, data_samples=elements(5)))


def key(**meta):
    return int(sample_keys(dict(
        inputs=torch.rand(1, 3), data_samples=[BaseDataElement(
            metainfo=meta)])))


def test_keys_identify_samples_by_their_meta_information():
    same = dict(sample_idx=3, img_path='a/1.jpg')
    assert key(**same) == key(**same, flip=True, ori_shape=(3, 4))
    # ConcatDataset restarts sample_idx.
    assert key(**same) != key(sample_idx=3, img_path='b/1.jpg')
    # Two persons in an image.
    assert key(id=1, img_id=9) != key(id=2, img_id=9)
    # CombinedDataset: the same ids in two data sets.
    assert key(id=1, img_id=9, dataset_name='coco') != key(
        id=1, img_id=9, dataset_name='mpii')
    assert key(sample_idx=12) == 12
    assert -2**63 <= key(img_path='x' * 1000) < 2**63


def test_keys_are_the_same_in_another_process():
    code = ('import sys, torch; from ausam_mm.sampling import sample_keys;'
            'from mmengine.structures import BaseDataElement as E;'
            'print(int(sample_keys(dict(data_samples=[E(metainfo=dict('
            "sample_idx=1, img_path='a.jpg'))]))))")
    ran = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True,
        check=True, env={**os.environ, 'PYTHONHASHSEED': '1'})
    assert int(ran.stdout.split()[-1]) == key(sample_idx=1, img_path='a.jpg')


@pytest.mark.parametrize('samples', [[BaseDataElement()], None,
                                     torch.tensor([1])])
def test_samples_without_identity_are_refused(samples):
    with pytest.raises(ValueError, match="scores='uniform'"):
        sample_keys(dict(inputs=torch.rand(1, 3), data_samples=samples))
