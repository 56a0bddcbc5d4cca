"""SampleHistory against dicts of lists."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ausam_mm.sampling import SampleHistory
from ausam_mm.sampling import history as module

key = st.integers(-2**63, 2**63 - 1) | st.integers(0, 20)
value = st.floats(-1e3, 1e3) | st.just(math.nan) | st.just(math.inf)
updates = st.lists(st.lists(st.tuples(key, value), max_size=12), max_size=15)


def tensors(pairs):
    return (torch.tensor([k for k, _ in pairs], dtype=torch.int64),
            torch.tensor([v for _, v in pairs], dtype=torch.float64))


@pytest.fixture(autouse=True)
def small_table(monkeypatch):
    """It grows often, and keys share slots."""
    monkeypatch.setattr('ausam_mm.sampling.history._MIN_CAPACITY', 2)


def check(history, observed):
    assert len(history) == len(observed)
    keys = torch.tensor([*observed, 21, -5], dtype=torch.int64)
    want = torch.tensor([len(v) for v in observed.values()] + [
        len(observed.get(21, [])), len(observed.get(-5, []))])
    assert torch.equal(history.counts(keys), want)
    means = history.means(keys)
    assert torch.equal(means.isnan(), want == 0)
    for k, mean in zip(observed, means.tolist()):
        assert mean == pytest.approx(
            sum(observed[k]) / len(observed[k]), abs=1e-6)


@settings(deadline=None, max_examples=150)
@given(updates)
def test_running_means_are_means(batches):
    history, observed = SampleHistory(), {}
    for pairs in batches:
        history.update(*tensors(pairs))
        for k, v in pairs:
            if math.isfinite(v):
                observed.setdefault(k, []).append(v)
        check(history, observed)
    restored = SampleHistory()
    restored.load_state_dict(history.state_dict())
    check(restored, observed)


@settings(deadline=None, max_examples=80)
@given(updates, updates)
def test_merging_two_histories_is_one_of_all_observations(one, two):
    tables = []
    for batches in (one, two, one + two):
        tables.append(SampleHistory())
        for pairs in batches:
            tables[-1].update(*tensors(pairs))
    state = tables[1].state_dict()
    tables[0].merge(state['keys'], state['means'], state['counts'])
    keys = tables[2].state_dict()['keys']
    assert len(tables[0]) == len(keys)
    assert torch.equal(tables[0].counts(keys), tables[2].counts(keys))
    torch.testing.assert_close(
        tables[0].means(keys), tables[2].means(keys), rtol=1e-6, atol=1e-6)


def test_the_state_of_a_history_loads_with_weights_only(tmp_path):
    history = SampleHistory()
    history.update(torch.arange(9), torch.rand(9))
    torch.save(history.state_dict(), tmp_path / 'table.pth')
    state = torch.load(tmp_path / 'table.pth', weights_only=True)
    loaded = SampleHistory()
    loaded.load_state_dict(state)
    assert torch.equal(loaded.means(torch.arange(9)),
                       history.means(torch.arange(9)))
    history.update(torch.arange(9), torch.rand(9))  # the state is a copy
    assert state['counts'].eq(1).all()


@pytest.mark.parametrize('state', [
    {}, dict(keys=torch.arange(2), means=torch.rand(3),
             counts=torch.arange(2))])
def test_a_state_that_is_no_history_is_refused(state):
    with pytest.raises(ValueError, match='no state of a SampleHistory'):
        SampleHistory().load_state_dict(state)


# -- a table that is bounded --

failing = value | st.just(-math.inf)
failing_updates = st.lists(
    st.lists(st.tuples(key, failing), max_size=12), max_size=25)


class Reference:
    """A dict in the order of arrival, which forgets its first entries."""

    def __init__(self, most):
        self.most, self.observed, self.failed = most, {}, set()

    def update(self, pairs):
        failed = {k for k, v in pairs if v == -math.inf}
        self.failed |= failed
        self.add({k: [] for k in failed})
        finite = {}
        for k, v in pairs:
            if math.isfinite(v):
                finite.setdefault(k, []).append(v)
        self.failed -= finite.keys()
        for k in finite.keys() & self.observed.keys():
            self.observed[k] += finite[k]
        self.add(finite)

    def add(self, found):
        for k in sorted(found.keys() - self.observed.keys()):
            self.observed[k] = found[k]
        for k in list(self.observed)[:max(0, len(self.observed) - self.most)]:
            del self.observed[k]
            self.failed.discard(k)


def check_all(history, reference):
    table = history.state_dict()
    assert table['keys'].tolist() == list(reference.observed)
    asked = torch.tensor([*reference.observed, 21, -5, *range(21)])
    means, counts = history.means(asked), history.counts(asked)
    for k, mean, count in zip(asked.tolist(), means.tolist(),
                              counts.tolist()):
        seen = reference.observed.get(k)
        assert count == len(seen or [])
        if seen is None:
            assert math.isnan(mean)
        elif k in reference.failed:
            assert mean == -math.inf
        else:
            assert mean == pytest.approx(sum(seen) / len(seen), abs=1e-6)


@settings(deadline=None, max_examples=150)
@given(failing_updates, st.integers(1, 12) | st.just(10**6))
def test_the_oldest_go_first_and_a_failure_lasts_until_a_success(
        batches, most):
    history, reference = SampleHistory(most), Reference(most)
    for i, pairs in enumerate(batches):
        history.update(*tensors(pairs))
        reference.update(pairs)
        check_all(history, reference)
        if i == len(batches) // 2:  # a resume in between
            state = history.state_dict()
            history = SampleHistory(most)
            history.load_state_dict(state)


def test_a_bounded_table_stays_small_and_finds_what_it_keeps():
    history = SampleHistory(max_samples=1000)
    for first in range(0, 200_000, 64):
        history.update(torch.arange(first, first + 64) * 7919,
                       torch.arange(64.))
    assert len(history) == 1000
    newest = torch.arange(first + 64 - 1000, first + 64) * 7919
    assert history.counts(newest).eq(1).all()
    assert history.counts(newest - 1000 * 7919).eq(0).all()
    memory = sum(part.nbytes for part in vars(history).values()
                 if isinstance(part, np.ndarray))
    assert memory <= 80 * 1100


def test_a_larger_table_is_loaded_with_its_newest_samples():
    history, bounded = SampleHistory(), SampleHistory(max_samples=3)
    history.update(torch.tensor([5]), torch.tensor([1.]))
    history.update(torch.arange(4), torch.arange(4.))
    bounded.load_state_dict(history.state_dict())
    assert bounded.state_dict()['keys'].tolist() == [1, 2, 3]


@pytest.mark.parametrize('stride', [1, 1 << 20, 1 << 40, 1 << 52, -3])
def test_keys_in_strides_are_found_in_few_tries(stride):
    history = SampleHistory()
    keys = torch.arange(2000) * stride
    history.update(keys, torch.ones(2000))
    slots = history._first_slots(keys.numpy())
    assert np.unique(slots).size > 1000
    assert history.counts(keys).eq(1).all()
    others = torch.cat([keys + 1, keys - 1])
    assert torch.equal(history.counts(others) > 0, torch.isin(others, keys))


@pytest.mark.parametrize('most', [0, -1, 2.5, '9'])
def test_a_bound_that_is_no_number_of_samples_is_refused(most):
    with pytest.raises(ValueError, match='is no number of samples: set at'):
        SampleHistory(most)


# -- observations that count less with age --

decay = st.sampled_from([1., 1 - 1e-12, 0.9, 0.5, 1e-3, 1e-300])


class DecayingReference(Reference):
    """As many times their mean in place of the observations of an update."""

    def update(self, pairs):
        finite = {}
        for k, v in pairs:
            if math.isfinite(v):
                finite.setdefault(k, []).append(v)
        super().update([(k, v) for k, v in pairs if not math.isfinite(v)] + [
            (k, sum(values) / len(values))
            for k, values in finite.items() for _ in values])


def decayed_mean(values, decay):
    weights = [decay**age for age in reversed(range(len(values)))]
    return sum(w * v for w, v in zip(weights, values)) / sum(weights)


def check_decayed(history, reference, decay):
    assert history.state_dict()['keys'].tolist() == list(reference.observed)
    asked = torch.tensor(list(reference.observed), dtype=torch.int64)
    for k, mean, count in zip(asked.tolist(), history.means(asked).tolist(),
                              history.counts(asked).tolist()):
        seen = reference.observed[k]
        assert count == len(seen)
        assert mean == (-math.inf if k in reference.failed else pytest.approx(
            decayed_mean(seen, decay), abs=1e-6))


@settings(deadline=None, max_examples=150)
@given(failing_updates, st.integers(1, 12) | st.just(10**6), decay)
def test_the_weight_of_an_observation_decays_with_each_later_one(
        batches, most, decay):
    history, reference = SampleHistory(most, decay), DecayingReference(most)
    for i, pairs in enumerate(batches):
        history.update(*tensors(pairs))
        reference.update(pairs)
        check_decayed(history, reference, decay)
        if i == len(batches) // 2:  # a resume in between
            state = history.state_dict()
            history = SampleHistory(most, decay)
            history.load_state_dict(state)


@settings(deadline=None, max_examples=80)
@given(updates, updates, decay)
def test_a_table_that_is_merged_counts_as_observed_after_the_other(
        one, two, decay):
    first, second, both = (SampleHistory(decay=decay) for _ in range(3))
    for table, batches in ((first, one), (second, two), (both, one + two)):
        for pairs in batches:
            table.update(*tensors(pairs))
    state = second.state_dict()
    first.merge(state['keys'], state['means'], state['counts'])
    keys = both.state_dict()['keys']
    assert torch.equal(first.counts(keys), both.counts(keys))
    torch.testing.assert_close(
        first.means(keys), both.means(keys), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=80)
@given(updates, st.lists(st.tuples(key, value), max_size=12), decay,
       st.randoms())
def test_the_order_of_the_observations_in_an_update_does_not_matter(
        earlier, pairs, decay, random):
    """That is the order of the processes whose observations are gathered."""
    one, other = SampleHistory(decay=decay), SampleHistory(decay=decay)
    for batch in earlier:
        one.update(*tensors(batch))
        other.update(*tensors(batch))
    one.update(*tensors(pairs))
    random.shuffle(pairs)
    other.update(*tensors(pairs))
    keys = one.state_dict()['keys']
    assert torch.equal(keys, other.state_dict()['keys'])
    assert torch.equal(one.counts(keys), other.counts(keys))
    torch.testing.assert_close(
        one.means(keys), other.means(keys), rtol=1e-9, atol=1e-9)


def test_a_decay_of_a_half_by_hand():
    history = SampleHistory(decay=0.5)
    keys = torch.tensor([7, 7])
    history.update(keys[:1], torch.tensor([4.]))
    history.update(keys[:1], torch.tensor([1.]))
    assert history.means(keys[:1]).item() == (2 + 1) / 1.5
    history.update(keys, torch.tensor([0., 6.]))  # twice their mean
    assert history.means(keys[:1]).item() == pytest.approx(
        (4 / 8 + 1 / 4 + 3 / 2 + 3) / (1 / 8 + 1 / 4 + 1 / 2 + 1))


@pytest.mark.parametrize('decay', [0., -0.5, 1.01, math.nan, True, '0.9'])
def test_a_decay_that_is_no_factor_is_refused(decay):
    with pytest.raises(ValueError, match=r'is no factor in \(0, 1\]: set 1'):
        SampleHistory(decay=decay)


def test_rows_of_all_processes_come_by_rank_however_many_each_has(
        monkeypatch):
    parts = [torch.arange(n * 2).reshape(n, 2) + 10 * n for n in (2, 0, 3)]
    sent = []

    def all_gather(gathered, data):
        sent.append(data)
        for rank, one in enumerate(gathered):
            if len(sent) == 1:
                one.copy_(torch.tensor([len(parts[rank]), rank + 1]))
            else:  # as many as the largest
                one.fill_(-1)[:len(parts[rank])] = parts[rank]

    monkeypatch.setattr(module, 'get_world_size', lambda: 3)
    monkeypatch.setattr(module, 'get_comm_device', lambda: 'cpu')
    monkeypatch.setattr(module.dist, 'all_gather', all_gather)
    total, rows = module.gather_rows(parts[0], 1)
    assert total == 1 + 2 + 3
    assert torch.equal(rows, torch.cat(parts))
    assert sent[0].tolist() == [2, 1]
    assert sent[1].tolist() == [*parts[0].tolist(), [0, 0]]
