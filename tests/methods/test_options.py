"""Wrong options of methods are refused in a sentence with the remedy."""

import pytest

from ..toy import build, wrap


@pytest.mark.parametrize('options,message', [
    (dict(alpha=0.), r'alpha=0.0 must be a ratio in \(0, 1\]'),
    (dict(alpha=1.5), 'alpha=1.5'),
    (dict(alpha=(0.75, 0.25)), 'ascent <= descent'),
    (dict(alpha='half'), 'for example 0.5 or'),
    (dict(alpha=(0.1, 0.2, 0.3)), 'pair'),
    (dict(alpha=True), 'alpha=True'),
    (dict(rho=-0.1), 'set rho >= 0'),
    (dict(rho='big'), 'set rho >= 0'),
    (dict(rho=float('nan')), 'set rho >= 0'),
    (dict(eta=-1), 'set eta >= 0'),
    (dict(s_min=0.), '0 < s_min <= s_max <= 1'),
    (dict(s_min=0.6, s_max=0.5), '0 < s_min <= s_max <= 1'),
    (dict(s_max=2), '0 < s_min <= s_max <= 1'),
    (dict(warmup_epochs=-1), 'set 0 to do without'),
    (dict(ramp_iters=-5), 'ramp_iters=-5'),
    (dict(seed=-1), 'at least 0'),
    (dict(sampling='poisson'), "set one of 'multinomial', 'systematic'"),
    (dict(weighting='ipw'), "set one of 'none', 'inverse_probability'"),
    (dict(scores='gradient'),
     "set one of 'adlp', 'uniform', 'loss', 'gradient_norm'"),
    (dict(favor='lowest'), "set one of 'high', 'low'"),
    (dict(favor='low', scores='uniform'), 'favors no sample: leave favor out'),
    (dict(decay=0), r'is no factor in \(0, 1\]: set 1 for the plain mean'),
    (dict(decay=1.5), 'decay=1.5 is no factor'),
    (dict(decay=0.9, scores='loss'), "scores='loss' has none: leave decay"),
    (dict(scores='loss', sampling='systematic'), 'samples nothing'),
    (dict(weighting='inverse_probability'), "sampling='systematic'"),
])
def test_wrong_values_of_ausam_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        wrap(build(), type='AUSAM', **options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('option,message', [
    ('alhpa', "AUSAM has no option 'alhpa': did you mean 'alpha'?"),
    ('radius', "AUSAM has no option 'radius': it knows accumulative_counts, "),
    ('loss_scale', "AUSAM has no option 'loss_scale': set base=dict("
     "type='AmpOptimWrapper', loss_scale=...), and _delete_=True where "
     'loss_scale is inherited.'),
    ('dtype', "set base=dict(type='AmpOptimWrapper', dtype=...), and"),
])
def test_an_unknown_option_is_refused_with_a_remedy(option, message):
    with pytest.raises(TypeError) as error:
        wrap(build(), type='AUSAM', **{option: 1})
    assert message in str(error.value)


@pytest.mark.parametrize('options, message', [
    (dict(type='ESAM', beta=0.), 'beta=0.0 is no ratio'),
    (dict(type='ESAM', gamma=1.5), 'gamma=1.5 is no ratio'),
    (dict(type='ESAM', seed=-1), 'at least 0'),
    (dict(type='LookSAM', k=0), 'set k >= 1'),
    (dict(type='LookSAM', k=2.5), 'set k >= 1'),
    (dict(type='LookSAM', alpha=-1.), 'published one is 0.7'),
    (dict(type='SSSAM', p=1.1), 'p=1.1 is no probability'),
    (dict(type='SSSAM', schedule='cosine'), "one of 'constant', 'linear'"),
    (dict(type='AESAM', decay=1.), 'published one is 0.9'),
    (dict(type='AESAM', c_end=float('nan')), 'c_end=nan'),
    (dict(type='AELookSAM', alpha='a'), 'published one is 0.7'),
    (dict(type='KSAM', k=0), 'None for half'),
    (dict(type='VSAM', K=1), 'set K >= 2'),
    (dict(type='VSAM', reuse=2), 'reuse=2'),
    (dict(type='VSAM', rate=0.3, min_rate=0.4), 'min_rate <= rate'),
    (dict(type='FSAM', lmbda=1), 'published one is 0.6'),
    (dict(type='FSAM', sigma=None), 'sigma=None'),
    (dict(type='GSAM', alpha=-0.2), 'set 0.2, or 0 for SAM'),
    (dict(type='GSAM', alpha=(0.25, 0.75)), 'set 0.2, or 0 for SAM'),
    (dict(type='RandomSAM', seed=-1), 'at least 0'),
    (dict(type='MSAM', momentum=0.), 'set momentum=0.9'),
    (dict(type='SplitSAM', ratio=1.), 'one of the two parts empty'),
    (dict(type='SplitSAM', ratio=0), 'for example 0.5'),
    (dict(type='SplitSAM', weighting='first'), "one of 'size', 'second'"),
    (dict(type='SplitSAM', direction='up'), "one of 'gradient', 'random'"),
    (dict(type='SplitSAM', reduction='max'), "one of None, 'mean', 'sum'"),
    (dict(type='SplitSAM', seed=-1), 'at least 0'),
    (dict(type='SAMPa', lmbda=1.2), 'published one is 0.2'),
    (dict(type='SAMPa', lmbda=None), 'lmbda=None'),
    (dict(type='MSAM', rho=-3.), 'set rho >= 0'),
], ids=str)
def test_wrong_values_of_other_methods_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        wrap(build(), **options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', [
    'ESAM', 'LookSAM', 'SSSAM', 'AESAM', 'AELookSAM', 'KSAM', 'VSAM', 'MSAM',
    'FSAM', 'GSAM', 'RandomSAM', 'SplitSAM', 'SAMPa'])
def test_an_unknown_option_of_any_method_is_refused(name):
    with pytest.raises(TypeError, match="did you mean 'rho'"):
        wrap(build(), type=name, rhoo=0.1)
