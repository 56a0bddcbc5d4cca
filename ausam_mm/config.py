"""What a training script changes in a config before it builds a Runner."""

from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from .engine.base_wrapper import ComposedOptimWrapper

# What every wrapper takes, so that it stays when the wrapper is exchanged.
_KEPT = ('optimizer', 'paramwise_cfg', 'constructor', 'clip_grad',
         'accumulative_counts')


def set_optim_wrapper(cfg: Config,
                      name: str | None = None,
                      amp: bool = False) -> None:
    """Exchanges the optimizer wrapper of a config, or sets its precision.

    The optimizer with its paramwise_cfg and constructor, clipping and
    accumulation stay. A wrapper that sets the precision becomes the ``base``
    of a method, and the other way round; ``amp`` sets it where it belongs:
    in MMEngine's wrapper, or in the ``base`` of a method.

    Args:
        cfg (Config): The config, changed in place.
        name (str, optional): Name of the registered wrapper to train with.
            Defaults to None, for the config's own.
        amp (bool): Whether to train in automatic mixed precision, with a
            dynamic loss scale unless the config has another. Defaults to
            False.

    Raises:
        ValueError: If no such wrapper is registered, or the config has none,
            or several optimizers.

    Example:
        >>> from mmengine.config import Config
        >>> from ausam_mm import set_optim_wrapper
        >>> cfg = Config(dict(optim_wrapper=dict(
        ...     optimizer=dict(type='SGD', lr=0.1))))
        >>> set_optim_wrapper(cfg, 'AUSAM', amp=True)
        >>> cfg.optim_wrapper.type, cfg.optim_wrapper.base.type
        ('AUSAM', 'AmpOptimWrapper')
    """
    if name is not None:
        _exchange(cfg, name)
    if amp:
        _use_amp(cfg)


def _exchange(cfg: Config, name: str) -> None:
    kind = OPTIM_WRAPPERS.get(name)
    if kind is None:
        raise ValueError(
            f'{name}: no such wrapper is registered; there are '
            f'{", ".join(sorted(OPTIM_WRAPPERS.module_dict))}.')
    old = dict(cfg.get('optim_wrapper') or {})
    if 'optimizer' not in old:
        raise ValueError(
            f'{name} needs one optimizer in the config: add '
            "optim_wrapper=dict(optimizer=dict(type='SGD', lr=...)).")
    new = {key: old.pop(key) for key in _KEPT if key in old}
    base = dict(old.pop('base', None) or {}) if _composes(
        old.get('type')) else old
    if _composes(kind):
        new['type'] = name
        if base.get('type', 'OptimWrapper') not in ('OptimWrapper',
                                                    OptimWrapper):
            new['base'] = base
    else:
        new.update(base)
        if name != 'OptimWrapper':  # which leaves the precision to the base
            new['type'] = name
    # A ConfigDict would merge the new one into the old one.
    cfg.pop('optim_wrapper')
    cfg.optim_wrapper = new
    imports = dict(cfg.get('custom_imports') or {})
    imports.setdefault('allow_failed_imports', False)
    imports['imports'] = [*imports.get('imports', []), 'ausam_mm']
    cfg.custom_imports = imports


def _composes(kind: str | type | None) -> bool:
    kind = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
    return isinstance(kind, type) and issubclass(kind, ComposedOptimWrapper)


def _use_amp(cfg: Config) -> None:
    wrapper = cfg.get('optim_wrapper')
    if not wrapper:
        raise ValueError(
            'Mixed precision needs an optimizer wrapper in the config: add '
            "optim_wrapper=dict(optimizer=dict(type='SGD', lr=...)).")
    mmengines = ('OptimWrapper', 'AmpOptimWrapper', OptimWrapper,
                 AmpOptimWrapper)
    if wrapper.get('type', 'OptimWrapper') not in mmengines:
        # A ConfigDict stores a copy of what it is given.
        wrapper.base = wrapper.get('base') or {}
        wrapper = wrapper.base
    wrapper['type'] = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')
