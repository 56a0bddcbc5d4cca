"""SAM and AUSAM against loops in torch, each other and the base optimizer."""

import pytest
import torch

from ausam_mm.methods import ausam

from ..toy import (
    batch,
    build,
    difference,
    record_selections,
    reference_step,
    sample_losses,
    wrap,
)

STEPS = 50


def reference_optimizer(model):
    return torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)


@pytest.mark.parametrize('eta', [None, 0.01], ids=['SAM', 'ASAM'])
def test_sam_matches_a_loop_in_torch(eta):
    model, reference = build(), build()
    asam = {} if eta is None else dict(adaptive=True, eta=eta)
    wrapper = wrap(model, type='SAM', rho=0.3, **asam)
    optimizer = reference_optimizer(reference)
    for i in range(STEPS):
        model.train_step(batch(i), wrapper)
        reference_step(reference, optimizer, batch(i), rho=0.3, eta=eta)
    assert difference(model, reference) < 1e-6
    assert difference(model, build()) > 1e-2


def test_ausam_with_alpha_1_is_sam():
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
def test_ausam_with_alpha_1_and_rho_0_is_the_base_bit_for_bit(reduction):
    base, ausam = (build(norm=True, dropout=0.2, reduction=reduction)
                   for _ in range(2))
    clip = dict(max_norm=1.)
    wrappers = [
        wrap(base, type='OptimWrapper', clip_grad=dict(clip)),
        wrap(ausam, type='AUSAM', rho=0., alpha=1., clip_grad=dict(clip))
    ]
    logs = []
    for model, wrapper in zip((base, ausam), wrappers):
        torch.manual_seed(1)
        logs.append([
            model.train_step(batch(i), wrapper)['loss'].item()
            for i in range(STEPS)
        ])
    assert logs[0] == logs[1]
    for name, value in base.state_dict().items():
        assert torch.equal(value, ausam.state_dict()[name]), name


@pytest.mark.parametrize('options', [
    dict(alpha=0.5),
    dict(alpha=0.3, sampling='systematic'),
    dict(alpha=(0.25, 0.75)),
    dict(alpha=(0.25, 1.), scores='uniform'),
], ids=str)
def test_ausam_matches_a_loop_in_torch_given_its_selections(options):
    model, reference = build(), build()
    wrapper = wrap(
        model,
        type='AUSAM',
        rho=0.3,
        warmup_iters=3,
        ramp_iters=20,
        **options)
    optimizer = reference_optimizer(reference)
    selections = record_selections(wrapper)
    sums, counts = torch.zeros(48).double(), torch.zeros(48)
    for i in range(STEPS):
        offset = 16 * (i % 3)
        data = batch(i % 3, first_index=offset)
        model.train_step(data, wrapper)
        seen = selections[-1]
        dlp = reference_step(
            reference, optimizer, data, 0.3, seen.ascent, seen.descent)
        sums[offset + seen.ascent] += dlp
        counts[offset + seen.ascent] += 1
    assert difference(model, reference) < 1e-6
    ratios = options['alpha']
    ascent, descent = ratios if isinstance(ratios, tuple) else (ratios, ) * 2
    assert len(selections[0].ascent) == len(selections[2].descent) == 16
    assert len(selections[-1].ascent) == int(16 * ascent)
    assert len(selections[-1].descent) == int(16 * descent)
    if 'scores' not in options:
        keys = torch.arange(48)
        assert torch.equal(wrapper.history.counts(keys), counts.long())
        torch.testing.assert_close(
            wrapper.history.means(keys), sums / counts, rtol=0, atol=1e-9)


def test_alpha_of_a_quarter_and_1_is_sam_with_a_smaller_first_pass():
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
        lambda module, args, output: seen.append(len(output))
        if module[1].training else None)
    optimizer = reference_optimizer(reference)
    model.train_step(batch(0), wrapper)
    reference_step(reference, optimizer, batch(0), 0.3)
    selections = record_selections(wrapper)
    for i in range(10):
        model.train_step(batch(i), wrapper)
        reference_step(reference, optimizer, batch(i), 0.3,
                       selections[-1].ascent)
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
    # The histories differ by no factor either: the selections are the same.
    assert difference(mean, summed) < 1e-9


def test_dlp_is_the_loss_difference_and_first_order_in_the_gradient():
    model = build()
    rho = 1e-5
    wrapper = wrap(model, type='AUSAM', rho=rho, alpha=1., lr=0.)
    data = batch()
    params = list(model.parameters())
    losses = sample_losses(model, data)
    mean = torch.autograd.grad(losses.mean(), params, retain_graph=True)
    norm = torch.cat([g.flatten() for g in mean]).norm()
    expected = []
    for loss in losses:
        grad = torch.autograd.grad(loss, params, retain_graph=True)
        inner = sum((g * m).sum() for g, m in zip(grad, mean))
        expected.append((rho * inner / norm).abs())
    model.train_step(data, wrapper)
    dlp = wrapper.history.means(torch.arange(16))
    torch.testing.assert_close(dlp, torch.stack(expected), rtol=1e-3,
                               atol=1e-9)


@pytest.mark.parametrize('steps', [
    1000, pytest.param(3000, marks=pytest.mark.slow)])  # sees smaller biases
@pytest.mark.parametrize('which', ['ascent', 'descent'])
def test_the_weighted_gradient_is_unbiased_at_every_step(which, steps):
    """Monte Carlo of both passes against the gradient of the full batch."""
    torch.manual_seed(0)
    model = build(reduction='sum')
    wrapper = wrap(
        model, type='AUSAM', rho=0., alpha=(0.25, 0.5), lr=0., s_max=1.,
        warmup_iters=1, ramp_epochs=0, sampling='systematic',
        weighting='inverse_probability')
    data = batch()
    for sample in data['data_samples'][:4]:
        sample.gt *= 6  # so that the samples' gradients are very unlike
    params = list(model.parameters())
    full = torch.cat([
        g.flatten() for g in torch.autograd.grad(
            sample_losses(model, data).sum(), params)
    ])
    model.train_step(data, wrapper)
    assert len(wrapper.history) == 16
    # Scores of their own, for rho=0 leaves every DLP at 0.
    wrapper.history.update(torch.arange(16), torch.arange(16.)**2)
    wrapper.observe = lambda step: None
    grads = []

    def record(*_):
        grads.append(torch.cat([p.grad.flatten() for p in params]))
        return torch.tensor(1.)  # the norm

    if which == 'ascent':
        wrapper.perturbation.perturb = record
    else:
        wrapper.base.step = record
    for _ in range(steps):
        model.train_step(data, wrapper)
    grads = torch.stack(grads)
    error = grads.std(0) / len(grads)**0.5
    z = (grads.mean(0) - full).abs() / error.clamp(min=1e-12)
    assert z.mean() < 1.3 and z.max() < 5
    # The test can tell: one selection alone is far from the full gradient.
    assert ((grads[0] - full).norm() / full.norm()) > 0.1


def test_equal_scores_select_every_sample_about_as_often():
    model = build()
    wrapper = wrap(model, type='AUSAM', rho=0., warmup_iters=1)
    for _i in range(40):
        model.train_step(batch(0), wrapper)
    counts = wrapper.history.counts(torch.arange(16))
    assert wrapper.history.means(torch.arange(16)).eq(0).all()
    assert counts.min() > 8 and counts.max() < 34


@pytest.mark.parametrize('favor', ['high', 'low'])
def test_scores_of_losses_select_the_highest_or_lowest_last_losses(favor):
    model = build()
    wrapper = wrap(model, type='AUSAM', scores='loss', alpha=(0.25, 0.75),
                   warmup_iters=1, ramp_iters=0, favor=favor)
    selections = record_selections(wrapper)
    last = sample_losses(model, batch()).detach()
    for i in range(6):  # always the same 16 samples
        at_w = sample_losses(model, batch()).detach()
        model.train_step(batch(), wrapper)
        selected = selections[-1]
        if i:
            order = last.argsort(descending=favor == 'high')
            assert selected.descent.tolist() == sorted(order[:12].tolist())
            used = selected.ascent
            assert used.tolist() == sorted(order[:4].tolist())
        else:
            used = torch.arange(16)
        last[used] = at_w[used]
    # Those with the lowest stay so.
    assert len({tuple(each.ascent.tolist()) for each in selections[1:]}) > (
        favor == 'high')


@pytest.mark.parametrize('kept', ['last', 'mean'])
def test_kept_losses_are_those_of_the_first_passes_and_change_nothing(kept):
    options = dict(type='AUSAM', alpha=(0.25, 0.75), warmup_iters=1,
                   ramp_iters=0)
    model, plain = build(), build()
    wrapper = wrap(model, keep_losses=kept, **options)
    without = wrap(plain, **options)
    selections = record_selections(wrapper)
    seen = [[] for _ in range(16)]
    for _ in range(6):  # always the same 16 samples
        at_w = sample_losses(model, batch()).detach().double()
        model.train_step(batch(), wrapper)
        plain.train_step(batch(), without)
        for i in selections[-1].ascent.tolist():
            seen[i].append(float(at_w[i]))
    expected = [losses[-1] if kept == 'last' else sum(losses) / len(losses)
                for losses in seen]
    keys = torch.arange(16)
    torch.testing.assert_close(wrapper.losses.means(keys), torch.tensor(
        expected, dtype=torch.float64), rtol=1e-5, atol=0)
    assert len({len(losses) for losses in seen}) > 1
    for p, q in zip(model.parameters(), plain.parameters()):
        assert torch.equal(p, q)

    again = wrap(build(), keep_losses=kept, **options)
    again.load_state_dict(wrapper.state_dict())
    assert torch.equal(again.losses.means(keys), wrapper.losses.means(keys))
    # Checkpoints are interchangeable with those of trainings without it.
    without.load_state_dict(wrapper.state_dict())
    again.load_state_dict(without.state_dict())
    assert torch.equal(again.losses.means(keys), wrapper.losses.means(keys))


@pytest.mark.parametrize('options,message', [
    (dict(keep_losses='all'), "keep_losses='all' is unknown"),
    (dict(keep_losses='last', scores='loss'), "is for scores='adlp'"),
    (dict(keep_losses='mean', scores='uniform'), "is for scores='adlp'")])
def test_losses_that_cannot_be_kept_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        wrap(build(), type='AUSAM', **options)


@pytest.mark.parametrize('favor', ['high', 'low'])
def test_samples_are_drawn_in_proportion_to_a_decaying_mean_of_dlp(
        favor, monkeypatch):
    drawn, multinomial = [], ausam.select_multinomial

    def recorded(q, *args):
        drawn.append(q)
        return multinomial(q, *args)

    monkeypatch.setattr(ausam, 'select_multinomial', recorded)
    model, reference = build(), build()
    wrapper = wrap(model, type='AUSAM', rho=0.3, favor=favor, decay=0.5,
                   warmup_iters=1, ramp_iters=0)
    optimizer = reference_optimizer(reference)
    selections = record_selections(wrapper)
    dlps = [[] for _ in range(16)]
    for i in range(12):
        model.train_step(batch(i % 3), wrapper)
        if i:
            means = torch.stack([
                sum(0.5**age * dlp for age, dlp in enumerate(reversed(seen)))
                / sum(0.5**age for age in range(len(seen)))
                for seen in dlps])
            relative = (means - means.min()) / (means.max() - means.min())
            if favor == 'low':
                relative = 1 - relative
            torch.testing.assert_close(drawn[-1], 0.1 + 0.4 * relative)
        used = selections[-1].ascent
        for k, dlp in zip(used, reference_step(
                reference, optimizer, batch(i % 3), 0.3, used, used)):
            dlps[k].append(dlp)
    assert len({len(seen) for seen in dlps}) > 2


def with_a_broken_sample(broken=3):
    data = batch()
    data['inputs'][broken] = float('nan')
    return data


@pytest.mark.parametrize('norm', [False, True], ids=['', 'BatchNorm'])
@pytest.mark.parametrize('scores,sampling', [
    ('adlp', 'multinomial'), ('adlp', 'systematic'), ('loss', 'multinomial')])
def test_a_sample_without_a_finite_loss_does_not_stop_the_training(
        scores, sampling, norm):
    """Always the same 16 samples, of which one spoils each of its steps.

    With BatchNorm it spoils the losses of the others, too.
    """
    model = build(norm=norm)
    wrapper = wrap(model, type='AUSAM', scores=scores, sampling=sampling,
                   warmup_iters=2, ramp_iters=2, seed=0)
    selections = record_selections(wrapper)
    model.train_step(batch(1, first_index=100), wrapper)
    before = difference(model, build(norm=norm))
    for _ in range(100):
        model.train_step(with_a_broken_sample(), wrapper)
    drawn = torch.zeros(16)
    for selection in selections[2:]:
        drawn[selection.ascent] += 1
    assert drawn[3] == wrapper.skipped_steps - 1 < 0.8 * drawn.mean()
    assert difference(model, build(norm=norm)) > before + 1e-2
    counts = wrapper.history.counts(torch.arange(16))
    assert wrapper.history.means(torch.tensor([3])) == -float('inf')
    assert counts[3] == 0
    if (scores, sampling) == ('adlp', 'multinomial'):
        # The others are known, also after they were in a spoiled batch.
        assert counts.gt(0).sum() == 15
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_sample_that_is_finite_again_is_scored_again():
    model = build()
    wrapper = wrap(model, type='AUSAM', alpha=1.)
    model.train_step(batch(), wrapper)
    model.train_step(with_a_broken_sample(), wrapper)
    key = torch.tensor([3])
    assert wrapper.history.means(key) == -float('inf')
    assert wrapper.history.counts(torch.arange(16)).eq(1).all()
    model.train_step(batch(), wrapper)
    assert wrapper.history.means(key).isfinite()
    assert wrapper.history.counts(torch.arange(16)).eq(2).all()
