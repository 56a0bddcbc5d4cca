"""Rules: how the loss of a batch splits into the losses of its samples."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Function = Callable[..., Tensor]
Counts = Callable[..., Tensor | None]


@dataclass(frozen=True)
class Rule:
    """What is registered for a loss module.

    Attributes:
        losses (Callable): Returns the samples' losses, shape (N, ).
        counts (Callable, optional): Returns what each sample adds to the
            number by which the module divides, shape (N, ), or None.
        labels (tuple[str]): The arguments of the module that ``counts``
            gets.
        takes_num_samples (bool): Whether ``losses`` is given N.
        numbers_from (str, optional): Of a detector's head, see
            :func:`ausam_mm.losses.register_detection_head`.
    """
    losses: Function
    counts: Counts | None = None
    labels: tuple[str, ...] = ()
    takes_num_samples: bool = False
    numbers_from: str | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...],
                 kwargs: dict[str, Any], num_samples: int) -> Tensor:
        """The samples' losses of a call, shape (N, )."""
        if self.takes_num_samples:
            kwargs = dict(kwargs, num_samples=num_samples)
        return self.losses(module, *args, **kwargs)

    def labels_of(self, module: nn.Module, args: tuple[Any, ...],
                  kwargs: dict[str, Any]) -> dict[str, Any]:
        """Those of a call that tell by what the module divides, by name."""
        if not self.labels:
            return {}
        arguments = call_arguments(module, args, kwargs)
        return {name: arguments.get(name) for name in self.labels}

    def counts_of(self, module: nn.Module,
                  labels: dict[str, Any]) -> Tensor | None:
        """What each sample adds to the number that divides, shape (N, )."""
        return self.counts(module, **labels) if self.counts else None


_RULES: dict[str, Rule] = {}
_REFUSALS: dict[str, str] = {}  # the reasons


def register_per_sample_loss(
        *losses: type | str,
        labels: tuple[str, ...] = (),
        counts: Counts | None = None) -> Callable[[Function], Function]:
    """Registers the rule that splits a loss module's batch loss into samples'.

    A rule is a function ``rule(module, *args, **kwargs)``, called with what
    the module was called with, and with ``num_samples`` if it has an argument
    of that name. It returns the samples' losses, shape (N, ),
    differentiable, such that the module's output is their mean or their sum.
    It raises ValueError with the reason where the loss is not separable. It
    must not call the module itself but ``module.forward``. A rule holds for
    subclasses, too.

    Without a rule a module is evaluated on each sample alone, which is right
    for every separable loss. A rule is for a loss that is slow or impossible
    to evaluate this way.

    A loss that is divided by a number which the labels of the batch tell,
    such as that of the labels that are not ignored, has a rule with
    ``labels`` and ``counts``: it returns numerators, and the module's output
    is their sum, divided by the sum of the counts.

    Args:
        *losses (type | str): The classes, or ``'package.ClassName'`` with the
            top-level package, so that the package needs not be imported.
        labels (tuple[str]): The arguments of the module that tell by what it
            divides: tensors with a row for each sample, and numbers. Defaults
            to none.
        counts (Callable, optional): ``counts(module, **labels)`` returns what
            each sample adds to the number by which the module divides, shape
            (N, ), or None where it divides by the number of samples. Defaults
            to None.

    Example:
        >>> import ausam_mm
        >>> @ausam_mm.register_per_sample_loss('my_project.ChamferLoss')
        ... def chamfer(module, pred, target):
        ...     return module.distance(pred, target).mean(dim=1)
    """

    def decorator(function: Function) -> Function:
        takes = 'num_samples' in inspect.signature(function).parameters
        add_rule(Rule(function, counts, labels, takes), *losses)
        return function

    return decorator


def add_rule(rule: Rule, *modules: type | str) -> None:
    """Sets the rule of classes, see :func:`register_per_sample_loss`."""
    for module in modules:
        _RULES[_key(module)] = rule


def refuse_per_sample_loss(reason: str, *modules: type | str) -> None:
    """Marks losses, heads or models as never separable.

    A model that has one is refused when its training starts.

    Args:
        reason (str): How it depends on other samples, as in 'it compares the
            samples of the batch with each other'.
        *modules (type | str): The classes, as for
            :func:`register_per_sample_loss`.
    """
    for module in modules:
        _REFUSALS[_key(module)] = reason
        _RULES.pop(_key(module), None)


def _key(cls: type | str) -> str:
    return cls if isinstance(cls, str) else (
        f'{cls.__module__.split(".")[0]}.{cls.__name__}')


def find_rule(module: nn.Module) -> tuple[Rule | None, str | None]:
    """The rule of a module's class or of its nearest parent's, or a reason."""
    for cls in type(module).__mro__:
        rule, reason = _RULES.get(_key(cls)), _REFUSALS.get(_key(cls))
        if rule or reason:  # a rule lifts a refusal
            return rule, None if rule else reason
    return None, None


def class_with_rule(module: nn.Module) -> type:
    """The class whose rule holds for a module: its own or a parent."""
    return next(cls for cls in type(module).__mro__ if _key(cls) in _RULES)


def refusal(name: str, module: nn.Module, reason: str) -> ValueError:
    """The error of a loss that is not separable.

    Args:
        name (str): Name of the module in the model; '' for the model.
        module (nn.Module): The module.
        reason (str): What a person understands, as a clause.
    """
    what = f'module `{name}`' if name else 'model'
    return ValueError(
        f'The {what} ({type(module).__name__}) does not '
        f'separate into the losses of the samples ({reason}): use another '
        'loss, register a rule with ausam_mm.register_per_sample_loss, or '
        'use SAM, which needs no per-sample losses, or SplitSAM with '
        "reduction='mean'.")


def call_arguments(module: nn.Module, args: tuple[Any, ...],
                   kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names that ``module.forward`` gives."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    arguments = dict(bound.arguments)
    arguments.update(arguments.pop('kwargs', {}))
    return arguments


def unreduced(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """What a module with a ``reduction`` attribute returns for 'none'."""
    twin = copy.copy(module)
    twin.reduction = 'none'
    losses: Tensor = twin.forward(*args, **kwargs)
    return losses


def loss_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model that compute its losses, outermost ones only.

    These are the modules that have a rule, whose class name ends with "Loss",
    or that are called ``loss_module``. Containers of losses are searched.
    A compiled loss is the one that was compiled.

    Args:
        model (nn.Module): The model, without a distributed wrapper.

    Returns:
        dict[str, nn.Module]: Loss modules by their names in the model.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        kind = type(original(module)).__name__
        if isinstance(module, (nn.ModuleList, nn.ModuleDict)) \
                or kind == 'MultipleLossWrapper':
            continue
        inside = any(name.startswith(f'{outer}.') for outer in found)
        if not inside and (find_rule(original(module))[0]
                           or kind.endswith('Loss')
                           or name.split('.')[-1] == 'loss_module'):
            found[name] = module
    return found


def original(module: nn.Module) -> nn.Module:
    """The module that ``torch.compile(module)`` was made of, or itself."""
    inside = getattr(module, '_orig_mod', None)
    return inside if isinstance(inside, nn.Module) else module
