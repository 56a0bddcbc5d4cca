"""What InfoBatch's sampler leaves out, against the paper's definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

from ausam_mm import InfoBatchSampler

losses_of_samples = st.lists(
    st.floats(0, 1e3, width=32) | st.just(math.nan), min_size=2, max_size=40)


def sampler_with(losses, r=0.5, epoch=1, seed=0, max_epochs=1000, **options):
    """A sampler that starts an epoch with given losses; NaN is unknown."""
    sampler = InfoBatchSampler(range(len(losses)), r, seed=seed, **options)
    sampler.max_epochs = max_epochs
    sampler.record(torch.arange(len(losses)),
                   torch.tensor(losses)[sampler.order])
    sampler.set_epoch(epoch)
    return sampler


def test_the_infobatch_sampler_is_registered():
    assert DATA_SAMPLERS.get('InfoBatchSampler') is InfoBatchSampler


@settings(deadline=None, max_examples=100)
@given(losses_of_samples, st.floats(0, 0.95), st.integers(0, 10**6))
def test_only_samples_with_a_known_loss_below_the_mean_are_left_out(
        losses, r, seed):
    sampler = sampler_with(losses, r, seed=seed)
    known = [loss for loss in losses if not math.isnan(loss)]
    mean = math.fsum(known) / max(len(known), 1)
    kept = list(sampler)
    assert len(kept) == len(set(kept)) == len(sampler) == sampler.kept
    weights = sampler.weights(torch.arange(len(kept))).tolist()
    for index, loss in enumerate(losses):
        if 0 < abs(loss - mean) < 1e-9 * mean:
            continue  # rounding decides
        below = not math.isnan(loss) and loss < mean
        if index not in kept:
            assert below and r > 0
        else:
            weight = weights[kept.index(index)]
            assert weight == (1 / (1 - r) if below and r > 0 else 1)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    st.lists(st.floats(0, 10, width=32), min_size=5, max_size=40),
    st.floats(0.1, 0.8))
def test_the_expected_weighted_loss_is_that_of_all_samples(losses, r):
    runs, sums, left_out = 400, [], 0
    sampler = sampler_with(losses, r)
    values = torch.tensor(losses, dtype=torch.double)
    below = values < values.mean()
    for epoch in range(1, runs + 1):
        sampler.set_epoch(epoch)
        weights = sampler.weights(torch.arange(len(sampler)))
        sums.append(float((weights * values[sampler.order]).sum()))
        left_out += len(losses) - len(sampler)
    # Each sample below the mean is kept with probability 1 - r, by itself.
    variance = float((values[below]**2).sum()) * r / (1 - r)
    error = abs(sum(sums) / runs - float(values.sum()))
    assert error <= 5 * math.sqrt(variance / runs) + 1e-9
    trials = runs * int(below.sum())
    assert abs(left_out - r * trials) <= 5 * math.sqrt(
        trials * r * (1 - r)) + 1e-9


@pytest.mark.parametrize('max_epochs,delta,pruned', [
    (8, 0.875, 7), (200, 0.875, 175), (4, 0.875, 3), (10, 1, 10),
    (100, 0.29, 29), (1, 0.875, 0), (3, 0.01, 0),
])
def test_the_last_epochs_of_infobatch_are_whole_and_unweighted(
        max_epochs, delta, pruned):
    losses = [0.] * 99 + [1.]
    for epoch in range(1, max_epochs):
        sampler = sampler_with(
            losses, epoch=epoch, delta=delta, max_epochs=max_epochs)
        whole = len(sampler) == 100
        weights = sampler.weights(torch.arange(len(sampler)))
        assert whole == (epoch >= pruned) == bool((weights == 1).all())
        assert sampler.pruning == (epoch < pruned)


@pytest.mark.parametrize('shuffle', [True, False])
def test_kept_samples_come_in_the_order_of_the_default_sampler(shuffle):
    losses = [float(i) for i in range(50)]
    whole = DefaultSampler(range(50), shuffle=shuffle, seed=3)
    for epoch in range(4):
        whole.set_epoch(epoch)
        for r in (0, 0.5):
            sampler = sampler_with(
                losses, r, epoch=epoch, seed=3, shuffle=shuffle)
            kept = set(sampler)
            assert list(sampler) == [i for i in whole if i in kept]
            assert (len(kept) == 50) == (r == 0 or epoch == 0)


def test_losses_recorded_in_an_epoch_do_not_change_its_order():
    sampler = sampler_with([float(i) for i in range(50)])
    order, weights = list(sampler), sampler.weights(torch.arange(10))
    sampler.record(torch.arange(10), torch.full((10, ), 99.))
    sampler.set_epoch(1)
    assert list(sampler) == order
    restored = InfoBatchSampler(range(50), seed=0)
    restored.max_epochs = 1000
    restored.load_state_dict(sampler.state_dict())
    restored.set_epoch(1)
    assert list(restored) == order
    assert torch.equal(restored.weights(torch.arange(10)), weights)
    for each in (sampler, restored):
        each.set_epoch(2)
    assert list(sampler) == list(restored) != order
    assert not sampler.below[order[:10]].any()


def test_non_finite_losses_are_not_recorded():
    sampler = sampler_with([1., math.inf, -math.inf, math.nan, 3.])
    assert sampler.losses.isfinite().tolist() == [
        True, False, False, False, True]
    assert sampler.below.tolist() == [True, False, False, False, False]


def test_the_infobatch_samplers_state_is_tensors_and_primitives(tmp_path):
    sampler = sampler_with([1., 2., 3.])
    torch.save(sampler.state_dict(), tmp_path / 'state.pth')
    state = torch.load(tmp_path / 'state.pth', weights_only=True)
    sampler.load_state_dict(state)
    assert state['losses'].dtype == torch.float32
    with pytest.raises(ValueError, match='of 3 samples, but the dataset has 4'
                       ': load the state with'):
        InfoBatchSampler(range(4), seed=0).load_state_dict(state)


@pytest.mark.parametrize('options,message', [
    (dict(r=1), r'r=1 is no probability .*: set 0 <= r < 1, for example 0.5'),
    (dict(r=-0.1), 'r=-0.1 is no prob'),
    (dict(r=math.nan), 'r=nan is no prob'),
    (dict(r='half'), "r='half' is no prob"),
    (dict(r=True), 'r=True is no prob'),
    (dict(delta=0), r'delta=0 is no ratio .*: set 0 < delta <= 1, for exam'),
    (dict(delta=1.1), 'delta=1.1 is no ratio'),
    (dict(delta=None), 'delta=None is no ratio'),
])
def test_the_infobatch_sampler_refuses_bad_options_with_a_remedy(
        options, message):
    with pytest.raises(ValueError, match=message):
        InfoBatchSampler(range(4), seed=0, **options)


def test_the_infobatch_sampler_needs_its_hook():
    with pytest.raises(RuntimeError, match='add dict.type="InfoBatchHook"'):
        iter(InfoBatchSampler(range(4), seed=0))
    assert len(list(InfoBatchSampler(range(4), r=0, seed=0))) == 4
