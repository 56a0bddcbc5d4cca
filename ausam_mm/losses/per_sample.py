"""Per-sample losses of a model that knows only its batch loss.

Forward hooks on the model's loss modules see the arguments and the output of
a module, and a rule turns them into one loss a sample. The batch loss must be
the mean or the sum of these. Which of the two, the reduction of the module,
is found on the first batch by comparing numbers.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..internals import flatten, not_compiled, remove_hook
from ..undo import Undo

Rule = Callable[..., Tensor]

_RULES: dict[str, Rule] = {}
_REFUSALS: dict[str, str] = {}  # the reasons
# Classes whose forward torch.func.vmap could not map.
_NOT_MAPPABLE: set[type] = set()


def register_per_sample_loss(
        *losses: type | str) -> Callable[[Rule], Rule]:
    """Registers the rule that splits a loss module's batch loss into samples'.

    A rule is a function ``rule(module, *args, **kwargs)``, called with what
    the module was called with. It returns the samples' losses, shape (N, ),
    differentiable, such that the module's output is their mean or their sum.
    It raises ValueError with the reason where the loss is not separable. It
    must not call the module itself but ``module.forward``. A rule holds for
    subclasses, too.

    Without a rule a module is evaluated on each sample alone, which is right
    for every separable loss that keeps no state. A rule is for a loss that
    is slow or impossible to evaluate this way.

    Args:
        *losses (type | str): The classes, or ``'package.ClassName'`` with the
            top-level package, so that the package needs not be imported.

    Example:
        >>> import ausam_mm
        >>> @ausam_mm.register_per_sample_loss('my_project.ChamferLoss')
        ... def chamfer(module, pred, target):
        ...     return module.distance(pred, target).mean(dim=1)
    """

    def decorator(rule: Rule) -> Rule:
        for loss in losses:
            _RULES[_key(loss)] = rule
        return rule

    return decorator


def refuse_per_sample_loss(reason: str, *modules: type | str) -> None:
    """Marks losses or heads as never separable.

    A model that has one is refused when its training starts, also where
    numbers alone do not show it, as with a head that makes the other samples
    of the batch the classes of a cross entropy.

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


def _find(module: nn.Module) -> tuple[Rule | None, str | None]:
    """The rule of a module's class or of its nearest parent's, or a reason."""
    for cls in type(module).__mro__:
        rule, reason = _RULES.get(_key(cls)), _REFUSALS.get(_key(cls))
        if rule or reason:  # a rule lifts a refusal
            return rule, None if rule else reason
    return None, None


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

    Args:
        model (nn.Module): The model, without a distributed wrapper.

    Returns:
        dict[str, nn.Module]: Loss modules by their names in the model.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, (nn.ModuleList, nn.ModuleDict)) \
                or kind == 'MultipleLossWrapper':
            continue
        inside = any(name.startswith(f'{outer}.') for outer in found)
        if not inside and (_find(module)[0] or kind.endswith('Loss')
                           or name.split('.')[-1] == 'loss_module'):
            found[name] = module
    return found


@dataclass
class PassRecord:
    """What a pass knows of its samples, and the losses it records.

    Attributes:
        num_samples (int): Samples that the pass sees, k.
        batch_size (int): Samples of the batch they were selected from, b.
        weights (Tensor, optional): Factor of each sample's loss, 1 / (b*pi),
            shape (k, ). None keeps the model's own batch loss.
        losses (Tensor): The samples' losses, summed over the loss modules,
            shape (k, ), detached; empty until a module was called.
    """
    num_samples: int
    batch_size: int
    weights: Tensor | None = None
    losses: Tensor = field(default_factory=lambda: torch.empty(0))


class PerSampleLosses:
    """Watches the loss modules of a model during a pass.

    It also keeps the scale of the loss: a module that sums over the batch has
    its output multiplied by b/k on k of b samples, so that the gradient of a
    subset is as long as that of the batch.

    Args:
        model (nn.Module): The model, without a distributed wrapper.
        reductions (dict[str, str]): The reduction of each loss module by its
            name, 'mean' or 'sum', as far as it is known. New ones are added.

    Raises:
        ValueError: If the model has no loss modules, or one that is never
            separable.
    """

    def __init__(self, model: nn.Module, reductions: dict[str, str]) -> None:
        for name, module in model.named_modules():
            reason = _find(module)[1]
            if reason is not None:
                raise self._refusal(name, module, reason)
        self.model = model
        self.modules = loss_modules(model)
        self.reductions = reductions
        self._verified: set[str] = set()
        if not self.modules:
            raise ValueError(
                f'{type(model).__name__} has no loss modules, so that the '
                'loss of each sample cannot be seen: compute its loss in an '
                'nn.Module whose class name ends with "Loss", or use SAM, '
                'which needs none.')

    @property
    def reductions_known(self) -> bool:
        """Whether a batch has shown the reduction of a loss module."""
        return any(name in self.reductions for name in self.modules)

    @contextmanager
    def watch(self, record: Callable[[], PassRecord],
              undo: Undo | None = None) -> Iterator[None]:
        """Fills a record from the loss modules that are called inside.

        Args:
            record (Callable): Returns the record of the pass; called when a
                loss module is, since what a pass sees may be decided inside.
            undo (Undo, optional): Keeps what removes the hooks. Defaults to
                None: they go with the context alone.
        """
        undo = undo or Undo()
        with undo.scope():
            for name, module in self.modules.items():
                hook = self._hook(name, record)
                undo.keep(remove_hook, module, hook)
                module.register_forward_hook(hook, with_kwargs=True)
            yield

    def check_called(self, record: PassRecord) -> None:
        """Raises if no loss module was called during a pass.

        Raises:
            ValueError: If it holds no losses.
        """
        if not len(record.losses):
            raise ValueError(
                f'None of the loss modules {sorted(self.modules)} was called '
                'during the forward pass, so that the loss of each sample '
                'cannot be seen: call the module itself instead of its '
                'methods, or use SAM, which needs no per-sample losses.')

    def _hook(self, name: str,
              record: Callable[[], PassRecord]) -> Callable[..., Any]:

        @not_compiled
        def hook(module: nn.Module, args: tuple[Any, ...],
                 kwargs: dict[str, Any], output: Any) -> Any:
            now = record()
            with torch.set_grad_enabled(now.weights is not None):
                losses = self._separate(name, module, args, kwargs, output,
                                        now.num_samples)
            reduction = self._reduction(name, module, losses.detach(), output)
            detached = losses.detach()
            now.losses = (
                now.losses + detached if len(now.losses) else detached)
            if now.weights is not None:
                weights = now.weights.to(losses)
                if reduction == 'sum':
                    weights = weights * now.batch_size
                return (losses * weights).sum()
            if reduction == 'sum' and now.num_samples < now.batch_size:
                return output * (now.batch_size / now.num_samples)
            return None

        return hook

    def _separate(self, name: str, module: nn.Module, args: tuple[Any, ...],
                  kwargs: dict[str, Any], output: Any,
                  num_samples: int) -> Tensor:
        """The samples' losses of one call, shape (num_samples, )."""
        if not isinstance(output, Tensor):
            raise self._refusal(
                name, module, f'it returns a {type(output).__name__} instead '
                'of a tensor')
        rule = _find(module)[0]
        try:
            if rule is not None:
                losses = rule(module, *args, **kwargs)
            elif output.ndim and output.size(0) == num_samples:
                losses = output.flatten(1).mean(1) if output.ndim > 1 \
                    else output
            else:
                losses = one_by_one(module, args, kwargs, num_samples)
        except ValueError as error:
            raise self._refusal(name, module, str(error)) from error
        if losses.shape != (num_samples, ):
            raise self._refusal(
                name, module, f'its losses have the shape '
                f'{tuple(losses.shape)} for {num_samples} samples')
        return losses

    def _reduction(self, name: str, module: nn.Module, losses: Tensor,
             output: Tensor) -> str:
        """The reduction, from the first batch that shows it.

        One sample, or a loss that is zero or not finite, does not show it.
        """
        if name in self._verified:
            return self.reductions[name]
        loss = output.detach().double().mean()
        losses = losses.double()
        mean, total = losses.mean(), losses.sum()
        tolerance = 1e-2 if output.dtype in (torch.float16,
                                             torch.bfloat16) else 1e-3
        scale = losses.abs().mean()
        is_mean = bool((loss - mean).abs() <= tolerance * scale)
        is_sum = bool((loss - total).abs() <= tolerance * scale * len(losses))
        if not loss.isfinite() or scale == 0 or len(losses) == 1:
            return self.reductions.get(name, 'mean')
        reduction = 'mean' if is_mean else 'sum' if is_sum else None
        if reduction is None:
            raise self._refusal(
                name, module, f'its value {loss:.6g} is neither the mean '
                f'{mean:.6g} nor the sum {total:.6g} of the losses of the '
                'samples alone')
        self.reductions[name] = reduction
        self._verified.add(name)
        if reduction == 'sum':
            print_log(
                f'The loss module `{name}` ({type(module).__name__}) sums '
                'over the batch: on k of b samples it is multiplied by b/k.',
                logger='current')
        return reduction

    @staticmethod
    def _refusal(name: str, module: nn.Module, reason: str) -> ValueError:
        return ValueError(
            f'The module `{name}` ({type(module).__name__}) does not '
            f'separate into the losses of the samples ({reason}): use another '
            'loss, register a rule with ausam_mm.register_per_sample_loss, or '
            'use SAM, which needs no per-sample losses.')


def one_by_one(module: nn.Module, args: tuple[Any, ...],
               kwargs: dict[str, Any], num_samples: int) -> Tensor:
    """The loss of each sample as the module's loss on it alone.

    By torch.func.vmap where the module's code allows it, which costs about as
    much as the batch loss, else in a loop.

    Args:
        module (nn.Module): A loss module that keeps no state.
        args (tuple): What it was called with.
        kwargs (dict): What it was called with by name.
        num_samples (int): The size N of the first dimension of those tensors
            that hold a slice for each sample.

    Returns:
        Tensor: The losses, shape (N, ).
    """
    if kwargs.get('avg_factor') is not None:
        # Heads pass the number of samples, by which a sum is divided.
        if kwargs['avg_factor'] != num_samples:
            raise ValueError(f'its avg_factor is {kwargs["avg_factor"]} for '
                             f'{num_samples} samples')
        kwargs = dict(kwargs, avg_factor=1)
    flat, rebuild = flatten((args, kwargs))
    batched = [
        isinstance(value, Tensor) and value.ndim > 0
        and value.size(0) == num_samples for value in flat
    ]
    if not any(batched):
        raise ValueError(f'none of its arguments holds {num_samples} samples')
    slices = [value for value, is_ in zip(flat, batched) if is_]

    def alone(*sample: Tensor) -> Tensor:
        parts = iter(sample)
        call = [
            next(parts).unsqueeze(0) if is_ else value
            for value, is_ in zip(flat, batched)
        ]
        args_, kwargs_ = rebuild(call)
        loss: Tensor = module.forward(*args_, **kwargs_).mean()
        return loss

    if type(module) not in _NOT_MAPPABLE:
        try:
            losses: Tensor = torch.func.vmap(alone)(*slices)
            return losses
        except (RuntimeError, ValueError, IndexError) as error:
            # Boolean masks and Python conditions on tensors cannot be mapped.
            print_log(
                f'{type(module).__name__} is evaluated sample by sample, '
                f'since torch.func.vmap cannot map it ({type(error).__name__})'
                '; a rule would be faster.',
                logger='current')
            _NOT_MAPPABLE.add(type(module))
    return torch.stack([alone(*sample) for sample in zip(*slices)])
