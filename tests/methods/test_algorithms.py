"""Every method against loops in torch written from their papers."""

import math

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, CosineAnnealingParamScheduler

from ausam_mm.engine import step_generator, uniform
from ausam_mm.methods import random_sam

from ..toy import (
    batch,
    build,
    difference,
    record_selections,
    sample_losses,
    wrap,
)

STEPS = 20
RHO = 0.3


class Reference:
    """A model, SGD with momentum, and gradients wherever they are wanted."""

    def __init__(self):
        self.model = build()
        self.params = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(
            self.params, lr=0.05, momentum=0.9, weight_decay=1e-3)

    def losses(self, data, eps=None):
        """The losses of the samples at w + eps."""
        with self.at(eps), torch.no_grad():
            return sample_losses(self.model, data)

    def gradient(self, data, eps=None, seen=slice(None)):
        """The gradient at w + eps of the mean loss of the samples seen."""
        with self.at(eps):
            loss = sample_losses(self.model, data)[seen].mean()
            return torch.autograd.grad(loss, self.params)

    def at(self, eps):
        reference = self

        class Moved:

            def __enter__(self):
                self.w = [p.detach().clone() for p in reference.params]
                for p, e in zip(reference.params, eps or []):
                    p.data.add_(e)

            def __exit__(self, *_):
                for p, w in zip(reference.params, self.w):
                    p.data.copy_(w)

        return Moved()

    def step(self, gradient):
        for p, g in zip(self.params, gradient):
            p.grad = g.clone()
        self.optimizer.step()


def norm(vectors):
    return torch.cat([v.flatten() for v in vectors]).norm()


def inner(a, b):
    return sum((x * y).sum() for x, y in zip(a, b))


def perturbation(g, rho=RHO):
    return [rho * part / norm(g) for part in g]


def trained(steps=STEPS, **options):
    """The model after some steps of a wrapper, and the wrapper."""
    model = build()
    wrapper = wrap(model, **options)
    wrapper.selections = record_selections(wrapper) \
        if hasattr(wrapper, 'select') else []
    wrapper.initialize_count_status(model, 0, steps)
    for i in range(steps):
        model.train_step(batch(i), wrapper)
    return model, wrapper


def assert_same(model, reference):
    assert difference(model, reference.model) < 1e-12
    assert difference(model, build()) > 1e-2


def test_looksam_matches_its_paper():
    model, _ = trained(type='LookSAM', rho=RHO, k=4, alpha=0.7)
    r = Reference()
    for t in range(STEPS):
        g = r.gradient(batch(t))
        if t % 4 == 0:
            g_s = r.gradient(batch(t), perturbation(g))
            cosine = inner(g, g_s) / (norm(g) * norm(g_s))
            g_v = [s - norm(g_s) * cosine * x / norm(g)
                   for s, x in zip(g_s, g)]
            r.step(g_s)
        else:
            r.step([x + 0.7 * norm(g) / norm(g_v) * v
                    for x, v in zip(g, g_v)])
    assert_same(model, r)


@pytest.mark.parametrize('schedule, p_of', [
    ('constant', lambda t: 0.5),
    ('linear', lambda t: t / STEPS),
    ('trigonometric', lambda t: 0.5 - 0.5 * math.cos(math.pi * t / STEPS)),
])
def test_sssam_matches_its_paper_given_its_coins(schedule, p_of):
    model, wrapper = trained(
        type='SSSAM', rho=RHO, schedule=schedule, seed=3)
    r, kinds = Reference(), set()
    for t in range(STEPS):
        g = r.gradient(batch(t))
        sam = float(uniform(wrapper.seed, t)) < p_of(t)
        kinds.add(sam)
        r.step(r.gradient(batch(t), perturbation(g)) if sam else g)
    assert_same(model, r)
    assert kinds == {True, False}


@pytest.mark.parametrize('reuse', [None, 0.7], ids=['AESAM', 'AELookSAM'])
def test_aesam_and_aelooksam_match_their_paper(reuse):
    options = dict(type='AESAM') if reuse is None else dict(
        type='AELookSAM', alpha=reuse)
    model, wrapper = trained(rho=RHO, **options)
    r, mean, variance, kinds = Reference(), 0., 0., []
    for t in range(STEPS):
        g = r.gradient(batch(t))
        x = float(norm(g))**2
        mean = 0.9 * mean + 0.1 * x
        variance = 0.9 * variance + 0.1 * (x - mean)**2
        c = 1 - 2 * t / STEPS
        kinds.append(x >= mean + c * math.sqrt(variance))
        if kinds[-1]:
            g_s = r.gradient(batch(t), perturbation(g))
            along = inner(g_s, g) / inner(g, g)
            g_v = [s - along * y for s, y in zip(g_s, g)]
            r.step(g_s)
        elif reuse is None:
            r.step(g)
        else:
            r.step([y + reuse * norm(g) / norm(g_v) * v
                    for y, v in zip(g, g_v)])
    assert_same(model, r)
    assert 0 < sum(kinds) < STEPS
    assert wrapper.samples_backpropagated == 16 * (STEPS + sum(kinds))


def test_ksam_matches_its_paper():
    model, wrapper = trained(type='KSAM', rho=RHO, k=6)
    r = Reference()
    for t in range(STEPS):
        seen = r.losses(batch(t)).argsort(descending=True)[:6]
        g = r.gradient(batch(t), seen=seen)
        r.step(r.gradient(batch(t), perturbation(g), seen))
    assert_same(model, r)
    assert wrapper.samples_backpropagated == STEPS * 12
    assert wrapper.samples_scored == STEPS * 16


def test_esam_matches_its_paper_given_its_masks():
    model, wrapper = trained(
        type='ESAM', rho=RHO, beta=0.6, gamma=0.5, seed=1)
    r, perturbed = Reference(), []
    for t in range(STEPS):
        mask = uniform(wrapper.seed, t, len(r.params)) < 0.6
        if not mask.any():
            mask[t % len(mask)] = True
        perturbed += mask.tolist()
        g = r.gradient(batch(t))
        g = [x * m for x, m in zip(g, mask)]
        eps = perturbation(g, RHO / 0.6)
        rise = r.losses(batch(t), eps) - r.losses(batch(t))
        r.step(r.gradient(batch(t), eps,
                          rise.argsort(descending=True)[:8]))
    assert_same(model, r)
    assert 0.4 < sum(perturbed) / len(perturbed) < 0.8
    assert wrapper.samples_backpropagated == STEPS * (16 + 8)


def test_msam_matches_its_paper():
    model, _ = trained(type='MSAM', rho=RHO)
    r = Reference()
    for t in range(STEPS):
        v = [r.optimizer.state[p].get('momentum_buffer') for p in r.params]
        eps = None if v[0] is None else [-e for e in perturbation(v)]
        r.step(r.gradient(batch(t), eps))
    assert_same(model, r)


def test_fsam_matches_its_paper():
    model, _ = trained(type='FSAM', rho=RHO, sigma=1., lmbda=0.6)
    r = Reference()
    m = [torch.zeros_like(p) for p in r.params]
    for t in range(STEPS):
        g = r.gradient(batch(t))
        m = [0.6 * a + 0.4 * x for a, x in zip(m, g)]
        d = [x - a for x, a in zip(g, m)]
        r.step(r.gradient(batch(t), perturbation(d)))
    assert_same(model, r)


def test_gsam_matches_its_paper():
    model, wrapper = trained(type='GSAM', rho=RHO, alpha=0.4)
    r = Reference()
    for t in range(STEPS):
        g = r.gradient(batch(t))
        g_p = r.gradient(batch(t), perturbation(g))
        cosine = inner(g, g_p) / (norm(g) * norm(g_p))
        vertical = [x - norm(g) * cosine * p / norm(g_p)
                    for x, p in zip(g, g_p)]
        assert abs(inner(vertical, g_p)) < 1e-12 < norm(vertical)
        r.step([p - 0.4 * v for p, v in zip(g_p, vertical)])
    assert_same(model, r)
    assert wrapper.samples_backpropagated == STEPS * 32


def test_gsam_steps_where_the_gradient_is_zero():
    model = build()
    wrapper = wrap(model, type='GSAM', rho=RHO, weight_decay=0.1)
    data = batch()
    for sample, target in zip(data['data_samples'],
                              model.net(data['inputs']).detach()):
        sample.set_data(dict(gt=target))
    before = [p.detach().clone() for p in model.parameters()]
    model.train_step(data, wrapper)
    assert wrapper.skipped_steps == 0
    for p, w in zip(model.parameters(), before):
        torch.testing.assert_close(p, w - 0.05 * 0.1 * w)


def test_rho_can_follow_the_learning_rate_as_in_gsam():
    wrapper = wrap(build(), type='GSAM', rho=0.4, lr=0.1)
    schedulers = [
        CosineAnnealingLR(wrapper, T_max=8, eta_min=0.01),
        CosineAnnealingParamScheduler(
            wrapper, param_name='rho', T_max=8, eta_min=0.2)]
    group, rhos = wrapper.param_groups[0], []
    for _ in range(9):
        rhos.append(group['rho'])
        assert (rhos[-1] - 0.2) / 0.2 == pytest.approx(
            (group['lr'] - 0.01) / 0.09)
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rhos == sorted(rhos, reverse=True)
    assert rhos[0] == 0.4 and rhos[-1] == pytest.approx(0.2)


def test_random_sam_matches_its_description_given_its_directions():
    model, wrapper = trained(type='RandomSAM', rho=RHO, seed=3)
    r = Reference()
    for t in range(STEPS):
        generator = step_generator(3, 0, t)
        v = [torch.randn(p.shape, generator=generator).double()
             for p in r.params]
        r.step(r.gradient(batch(t), perturbation(v)))
    assert_same(model, r)
    assert wrapper.samples_backpropagated == STEPS * 16


@pytest.mark.parametrize('alike', [False, True])
def test_random_sam_s_processes_share_a_direction_if_synchronized(
        alike, monkeypatch):
    ends = []
    for rank in (0, 1):
        monkeypatch.setattr(random_sam, 'get_rank', lambda rank=rank: rank)
        ends.append(trained(type='RandomSAM', rho=RHO, seed=0, steps=1,
                            sync_perturbation=alike)[0])
    assert (difference(*ends) == 0) == alike


def test_random_sam_has_a_direction_in_each_micro_batch():
    single, _ = trained(type='RandomSAM', rho=RHO, seed=0, steps=1)
    model = build()
    wrapper = wrap(model, type='RandomSAM', rho=RHO, seed=0,
                   accumulative_counts=2)
    for _ in range(2):
        model.train_step(batch(0), wrapper)
    assert wrapper.num_updates == 1
    assert difference(single, model) > 1e-4


def test_vsam_matches_its_description():
    model, wrapper = trained(
        type='VSAM', rho=RHO, K=5, reuse=0.7, rate=0.5, min_rate=0.2)
    r, credit, rate, last, norms, rates = Reference(), 1., 0.5, None, [], []
    for t in range(STEPS):
        g = r.gradient(batch(t))
        if credit >= 1 - 1e-9:
            g_s = r.gradient(batch(t), perturbation(g))
            psf, age = [s - x for s, x in zip(g_s, g)], 0
            norms.append(norm(psf))
            credit -= 1
            r.step(g_s)
        else:
            age += 1
            r.step([x + 0.7**age * v for x, v in zip(g, psf)])
        if (t + 1) % 5 == 0:
            if len(norms) > 1:
                now = float(torch.stack(norms).std()
                            / torch.stack(norms).mean())
                if last is not None:
                    rate = min(1., max(0.2, rate * now / last))
                last = now
            norms = []
        credit += rate
        rates.append(rate)
    assert_same(model, r)
    assert len(set(rates)) > 2
    assert wrapper.rate == pytest.approx(rate)


def test_the_psf_of_vsam_ages_through_an_overflow():
    torch.manual_seed(0)
    model = build()
    wrapper = wrap(model, type='VSAM', rho=RHO, reuse=0.7, rate=0.5)
    r = Reference()
    for t in range(4):
        data = batch(t)
        if t == 2:  # it would sample
            data['inputs'] = data['inputs'] * math.inf
        model.train_step(data, wrapper)
        g = r.gradient(batch(t))
        if t == 0:
            g_s = r.gradient(batch(t), perturbation(g))
            psf = [s - x for s, x in zip(g_s, g)]
            r.step(g_s)
        elif t != 2:
            r.step([x + 0.7**t * v for x, v in zip(g, psf)])
    assert_same(model, r)


@pytest.mark.parametrize('ratio', [0.5, 0.25])
@pytest.mark.parametrize('weighting', ['size', 'second'])
def test_splitsam_matches_its_description_given_its_splits(weighting, ratio):
    model, wrapper = trained(
        type='SplitSAM', rho=RHO, ratio=ratio, weighting=weighting, seed=2)
    r, splits = Reference(), set()
    for t in range(STEPS):
        one = wrapper.selections[t].ascent
        two = torch.tensor([i for i in range(16) if i not in one])
        splits.add(tuple(one.tolist()))
        g = r.gradient(batch(t), seen=one)
        second = r.gradient(batch(t), perturbation(g), two)
        if weighting == 'size':
            second = [(len(one) * x + len(two) * y) / 16
                      for x, y in zip(g, second)]
        r.step(second)
    assert_same(model, r)
    assert len(splits) > STEPS / 2
    assert {len(one) for one in splits} == {16 * ratio}
    assert wrapper.samples_backpropagated == STEPS * 16


@pytest.mark.parametrize('degenerate, other', [
    (dict(type='ESAM', beta=1., gamma=1.), 'SAM'),
    (dict(type='LookSAM', k=1), 'SAM'),
    (dict(type='SSSAM', p=0.), 'OptimWrapper'),
    (dict(type='SSSAM', p=1.), 'SAM'),
    (dict(type='AESAM', c_start=-math.inf, c_end=-math.inf), 'SAM'),
    (dict(type='AESAM', c_start=math.inf, c_end=math.inf), 'OptimWrapper'),
    (dict(type='AELookSAM', c_start=-math.inf, c_end=-math.inf), 'SAM'),
    (dict(type='KSAM', k=16), 'SAM'),
    (dict(type='VSAM', rate=1., min_rate=1.), 'SAM'),
    (dict(type='FSAM', sigma=0.), 'SAM'),
    (dict(type='MSAM', rho=0.), 'OptimWrapper'),
    (dict(type='GSAM', alpha=0.), 'SAM'),
    (dict(type='RandomSAM', rho=0.), 'OptimWrapper'),
], ids=str)
def test_degenerate_settings_are_sam_or_the_base_optimizer(degenerate, other):
    torch.manual_seed(0)
    model, _ = trained(**{'rho': RHO, **degenerate})
    expected, _ = trained(
        type=other, **(dict(rho=RHO) if other == 'SAM' else {}))
    assert difference(model, expected) == 0


METHODS = dict(
    ESAM=dict(), LookSAM=dict(k=3), SSSAM=dict(p=0.6, seed=0), AESAM=dict(),
    AELookSAM=dict(), KSAM=dict(), VSAM=dict(K=4, min_rate=0.2), MSAM=dict(),
    FSAM=dict(), GSAM=dict(), RandomSAM=dict(seed=0), SplitSAM=dict(),
    SAMPa=dict())


@pytest.mark.parametrize('name', METHODS)
def test_no_method_is_sam_or_the_base_optimizer(name):
    """Whatever hook or key is missing."""
    model, _ = trained(type=name, rho=RHO, **METHODS[name])
    for other in ('OptimWrapper', 'SAM'):
        options = dict(rho=RHO) if other == 'SAM' else {}
        assert difference(
            model, trained(type=other, **options)[0]) > 1e-3, other


@pytest.mark.parametrize('name, options', [
    ('LookSAM', dict(alpha=0., k=3)),
    ('AELookSAM', dict(alpha=0.)),
    ('VSAM', dict(reuse=0., K=4, min_rate=0.2)),
])
def test_the_reused_direction_matters(name, options):
    with_it, _ = trained(type=name, rho=RHO, **METHODS[name])
    without, _ = trained(type=name, rho=RHO, **options)
    assert difference(with_it, without) > 1e-3
