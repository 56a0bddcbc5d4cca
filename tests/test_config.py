"""One call, or one word, changes the wrapper of any config."""

import subprocess
import sys

import pytest
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from ausam_mm import set_optim_wrapper

SGD = dict(type='SGD', lr=0.1)
KEPT = dict(optimizer=SGD, clip_grad=dict(max_norm=1.),
            paramwise_cfg=dict(norm_decay_mult=0.), accumulative_counts=2,
            constructor='LearningRateDecayOptimWrapperConstructor')
AMP = dict(type='AmpOptimWrapper', dtype='float16', loss_scale=512.)
DYNAMIC = dict(type='AmpOptimWrapper', loss_scale='dynamic')


@pytest.mark.parametrize('old,name,new', [
    (KEPT, 'AUSAM', dict(KEPT, type='AUSAM')),
    (dict(KEPT, type='OptimWrapper'), 'SAM', dict(KEPT, type='SAM')),
    (dict(optimizer=SGD, type=OptimWrapper), 'SAM',
     dict(optimizer=SGD, type='SAM')),
    (dict(KEPT, **AMP), 'AUSAM', dict(KEPT, type='AUSAM', base=AMP)),
    (dict(KEPT, type='SAM', rho=0.3, base=AMP), 'AUSAM',
     dict(KEPT, type='AUSAM', base=AMP)),
    (dict(KEPT, type='AUSAM', alpha=0.3), 'OptimWrapper', KEPT),
    (dict(KEPT, type='AUSAM', base=AMP), 'OptimWrapper', dict(KEPT, **AMP)),
])
def test_optimizer_clipping_accumulation_and_precision_stay(old, name, new):
    cfg = Config(dict(optim_wrapper=old))
    set_optim_wrapper(cfg, name)
    assert cfg.optim_wrapper.to_dict() == new
    assert cfg.custom_imports.imports == ['ausam_mm']


@pytest.mark.parametrize('old,name,new', [
    (dict(optimizer=SGD), None, dict(optimizer=SGD, **DYNAMIC)),
    (dict(optimizer=SGD, **AMP), None, dict(optimizer=SGD, **AMP)),
    (dict(optimizer=SGD, type=AmpOptimWrapper), None,
     dict(optimizer=SGD, **DYNAMIC)),
    (dict(optimizer=SGD, type='SAM', rho=0.3), None,
     dict(optimizer=SGD, type='SAM', rho=0.3, base=DYNAMIC)),
    (dict(optimizer=SGD, type='SAM', base=dict(type='OptimWrapper')), None,
     dict(optimizer=SGD, type='SAM', base=DYNAMIC)),
    (dict(optimizer=SGD), 'AUSAM',
     dict(optimizer=SGD, type='AUSAM', base=DYNAMIC)),
    (dict(optimizer=SGD, **AMP), 'AUSAM',
     dict(optimizer=SGD, type='AUSAM', base=AMP)),
])
def test_amp_is_set_in_the_wrapper_that_casts(old, name, new):
    cfg = Config(dict(optim_wrapper=old))
    set_optim_wrapper(cfg, name, amp=True)
    assert cfg.optim_wrapper.to_dict() == new


@pytest.mark.parametrize('cfg,options,message', [
    (dict(optim_wrapper=dict(optimizer=SGD)), dict(name='ASUAM'),
     'no such wrapper is registered.*AUSAM'),
    (dict(optim_wrapper=dict(a=dict(optimizer=SGD))), dict(name='SAM'),
     'needs one optimizer in the config'),
    (dict(), dict(amp=True), 'needs an optimizer wrapper in the config'),
])
def test_configs_without_such_a_wrapper_are_refused(cfg, options, message):
    with pytest.raises(ValueError, match=message):
        set_optim_wrapper(Config(cfg), **options)


def test_importing_the_package_imports_neither_tooling_nor_analysis():
    code = ('import sys, ausam_mm; '
            "assert not any(f'ausam_mm.{name}' in sys.modules "
            "for name in ('tooling', 'analysis'))")
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)
