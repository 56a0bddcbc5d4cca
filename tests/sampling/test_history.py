"""SampleHistory against a dict of lists."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ausam_mm.sampling import SampleHistory

key = st.integers(-2**63, 2**63 - 1) | st.integers(0, 20)
value = st.floats(-1e3, 1e3) | st.just(math.nan) | st.just(math.inf)
updates = st.lists(st.lists(st.tuples(key, value), max_size=12), max_size=15)


def tensors(pairs):
    return (torch.tensor([k for k, _ in pairs], dtype=torch.int64),
            torch.tensor([v for _, v in pairs], dtype=torch.float64))


@pytest.fixture(autouse=True)
def small_index(monkeypatch):
    """Rebuild the index often, so that both of its parts are in use."""
    monkeypatch.setattr(SampleHistory, '_MIN_UNSORTED', 3)


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
