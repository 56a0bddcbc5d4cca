"""The wrappers against plain-torch loops and against each other."""

import pytest
import torch

from ..toy import batch, build, difference, reference_step, wrap

STEPS = 50


def reference_optimizer(model):
    return torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)


@pytest.mark.parametrize('eta', [None, 0.01], ids=['SAM', 'ASAM'])
def test_sam_is_the_plain_torch_sam(eta):
    model, reference = build(), build()
    asam = {} if eta is None else dict(adaptive=True, eta=eta)
    wrapper = wrap(model, type='SAM', rho=0.3, **asam)
    optimizer = reference_optimizer(reference)
    for i in range(STEPS):
        model.train_step(batch(i), wrapper)
        reference_step(reference, optimizer, batch(i), rho=0.3, eta=eta)
    assert difference(model, reference) < 1e-6
    assert difference(model, build()) > 1e-2


def test_ausam_on_everything_is_sam():
    sam, ausam = build(norm=True, dropout=0.2), build(norm=True, dropout=0.2)
    wrappers = [
        wrap(sam, type='SAM', rho=0.1),
        wrap(ausam, type='AUSAM', rho=0.1, alpha=1.)
    ]
    for model, wrapper in zip((sam, ausam), wrappers):
        torch.manual_seed(1)
        for i in range(STEPS):
            model.train_step(batch(i), wrapper)
    assert difference(sam, ausam) == 0


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_without_radius_on_everything_it_is_the_base(reduction):
    plain, ausam = (build(norm=True, dropout=0.2, reduction=reduction)
                    for _ in range(2))
    clip = dict(max_norm=1.)
    wrappers = [
        wrap(plain, type='OptimWrapper', clip_grad=dict(clip)),
        wrap(ausam, type='AUSAM', rho=0., alpha=1., clip_grad=dict(clip))
    ]
    logs = []
    for model, wrapper in zip((plain, ausam), wrappers):
        torch.manual_seed(1)
        logs.append([
            model.train_step(batch(i), wrapper)['loss'].item()
            for i in range(STEPS)
        ])
    assert logs[0] == logs[1]
    for name, value in plain.state_dict().items():
        assert torch.equal(value, ausam.state_dict()[name]), name


@pytest.mark.parametrize('options', [
    dict(alpha=0.5),
    dict(alpha=0.3, sampling='systematic'),
    dict(alpha=(0.25, 0.75)),
    dict(alpha=(0.25, 1.), scores='uniform'),
],
                         ids=str)
def test_ausam_is_the_plain_torch_ausam_given_its_draws(options):
    model, reference = build(), build()
    wrapper = wrap(
        model,
        type='AUSAM',
        rho=0.3,
        warmup_iters=3,
        ramp_iters=20,
        **options)
    optimizer = reference_optimizer(reference)
    draws, original = [], wrapper.select

    def recorded(data):
        draws.append(original(data))
        return draws[-1]

    wrapper.select = recorded
    sums, counts = torch.zeros(48), torch.zeros(48)
    sums = sums.double()
    for i in range(STEPS):
        offset = 16 * (i % 3)
        data = batch(i % 3, first_index=offset)
        model.train_step(data, wrapper)
        s2 = draws[-1].descent
        s1 = draws[-1].ascent
        dlp = reference_step(reference, optimizer, data, 0.3, s1, s2)
        sums[offset + s1] += dlp
        counts[offset + s1] += 1
    assert difference(model, reference) < 1e-6
    ratios = options['alpha']
    ascent, descent = ratios if isinstance(ratios, tuple) else (ratios, ) * 2
    assert len(draws[0].ascent) == len(draws[2].descent) == 16
    assert len(draws[-1].ascent) == int(16 * ascent)
    assert len(draws[-1].descent) == int(16 * descent)
    if 'scores' not in options:
        keys = torch.arange(48)
        assert torch.equal(wrapper.history.counts(keys), counts.long())
        torch.testing.assert_close(
            wrapper.history.means(keys), sums / counts, rtol=0, atol=1e-9)


def test_ascent_on_a_quarter_of_the_batch_with_descent_on_all():
    """(0.25, 1) with uniform scores: SAM whose first pass sees a quarter."""
    model, reference = build(), build()
    wrapper = wrap(
        model,
        type='AUSAM',
        rho=0.3,
        alpha=(0.25, 1.),
        scores='uniform',
        warmup_iters=1)
    seen = []
    model.net.register_forward_hook(
        lambda module, args, output: seen.append(len(output)))
    optimizer = reference_optimizer(reference)
    model.train_step(batch(0), wrapper)
    reference_step(reference, optimizer, batch(0), 0.3)
    original = wrapper.select
    draws = []
    wrapper.select = lambda data: draws.append(original(data)) or draws[-1]
    for i in range(10):
        model.train_step(batch(i), wrapper)
        reference_step(reference, optimizer, batch(i), 0.3, draws[-1].ascent)
    assert seen == [16, 16] + [4, 16] * 10
    assert difference(model, reference) < 1e-6


def test_a_summing_loss_keeps_the_batch_scale_on_a_subset():
    """The gradient of a sum over k of b samples is scaled by b/k."""
    mean, summed = build(reduction='mean'), build(reduction='sum')
    options = dict(
        type='AUSAM', rho=0.3, alpha=0.5, warmup_iters=1, seed=5,
        momentum=0.)
    # Where the mean is stepped with lr, the sum over b = 16 is with lr / 16.
    mean_wrapper = wrap(mean, lr=0.16, weight_decay=0., **options)
    sum_wrapper = wrap(summed, lr=0.01, weight_decay=0., **options)
    for _i in range(20):
        mean_loss = mean.train_step(batch(0), mean_wrapper)['loss']
        sum_loss = summed.train_step(batch(0), sum_wrapper)['loss']
        assert sum_loss.item() == pytest.approx(16 * mean_loss.item())
    assert difference(mean, build()) > 1e-3
    # The two histories differ by no factor either, so the draws are the same.
    assert difference(mean, summed) < 1e-9
