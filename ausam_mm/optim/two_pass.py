"""The engine of every method that runs two passes in a training step."""

import copy
import difflib
import inspect
import math
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional

import torch
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim import Optimizer

from ..losses import PerSampleLosses
from ..losses.per_sample import PassRecord
from ..sampling import Draw, batch_size, take
from .perturbation import Perturbation

# Under this name the state of a method lies in a checkpoint's 'optimizer'.
STATE = 'ausam_mm'


@dataclass
class Step:
    """One call of ``train_step``, from optim_context to update_params.

    Attributes:
        model (nn.Module): The outermost model, which both passes go through.
        inner (nn.Module): The model without its distributed wrapper.
        draw (Draw, optional): What the passes see; None for everything.
        args (tuple): The preprocessed batch that the second pass repeats.
        kwargs (dict): The same, by name.
        num_calls (int): How often the model was called.
        rng (dict): States of the random generators before the first pass.
        first (PassRecord, optional): The samples' losses at w.
        second (PassRecord, optional): The samples' losses at w + eps.
    """
    model: nn.Module
    inner: nn.Module
    draw: Optional[Draw] = None
    args: tuple = ()
    kwargs: Optional[dict] = None
    num_calls: int = 0
    rng: Optional[dict] = None
    first: Optional[PassRecord] = None
    second: Optional[PassRecord] = None


class TwoPassOptimWrapper(OptimWrapper):
    """Runs a first pass, a climb, a second pass, and the base's step.

    The wrapper decides what is run; the ``base`` wrapper casts, scales, clips
    and steps. It needs nothing but ``optim_context(model)`` around the
    forward pass and ``update_params(loss)`` after it, which is what the
    ``train_step`` of every MMEngine model does: hooks on the model's data
    preprocessor and on the model, there only inside the context, cut the
    batch and keep the call that the second pass repeats.

    1. :meth:`draw` says which samples the passes see, before the batch goes
       to the device and before Mixup.
    2. First pass on S1: the losses at w, and the gradient g.
    3. Climb: w + eps (see :class:`Perturbation`).
    4. Second pass on S2, which contains S1: the losses at w + eps, and the
       gradient, with the same dropout masks and without moving BatchNorm's
       statistics again.
    5. Restore w, step, and :meth:`observe`.

    Methods override :meth:`draw` and :meth:`observe`.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the climb. It is put into the optimizer's param
            groups, so that schedulers (``param_name='rho'``) and
            ``paramwise_cfg`` can change it.
        adaptive (bool): Whether the radius scales with each weight (ASAM).
            Defaults to False.
        eta (float): What ASAM adds to a weight's size. Defaults to 0.01.
        match_rng (bool): Whether dropout, DropPath and other random layers
            draw the same in both passes, where both see the same samples.
            Defaults to True.
        sync_perturbation (bool): Whether processes climb together, on the
            mean of their gradients, instead of each on its own. With one
            process there is no difference. Defaults to False.
        base (dict | OptimWrapper, optional): The wrapper that casts, clips
            and steps, as a config without optimizer. Defaults to None, for
            ``dict(type='OptimWrapper')``.
        accumulative_counts (int): Handed to the base. Defaults to 1.
        clip_grad (dict, optional): Handed to the base, which clips the second
            gradient. Defaults to None.

    Raises:
        TypeError: For unknown options.
        ValueError: For values out of range.
        NotImplementedError: For what the engine does not do yet.
    """

    def __init__(self,
                 optimizer: Optimizer,
                 rho: float = 0.05,
                 adaptive: bool = False,
                 eta: float = 0.01,
                 match_rng: bool = True,
                 sync_perturbation: bool = False,
                 base: Optional[dict] = None,
                 accumulative_counts: int = 1,
                 clip_grad: Optional[dict] = None,
                 **unknown) -> None:
        if unknown:
            raise TypeError(self._unknown_option(next(iter(unknown))))
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f'{name} wraps one torch optimizer, not a '
                f'{type(optimizer).__name__}: train all parts of the model '
                'with one optimizer, with paramwise_cfg for their settings.')
        if not _is_number(rho) or rho < 0 or not math.isfinite(rho):
            raise ValueError(f'rho={rho!r} is no radius: set rho >= 0, for '
                             'example 0.05.')
        if not _is_number(eta) or eta < 0:
            raise ValueError(f'eta={eta!r} must not be negative: set '
                             'eta >= 0, for example 0.01.')
        self.base = self._build_base(optimizer, base, accumulative_counts,
                                     clip_grad)
        self.rho = rho
        self.match_rng = match_rng
        self.sync_perturbation = sync_perturbation
        self.perturbation = Perturbation(adaptive, eta)
        self._fill_in_rho()

        self.num_steps = 0
        self.samples_loaded = 0
        self.samples_backpropagated = 0
        self.skipped_climbs = 0
        self._laws: Dict[str, str] = {}
        self._step: Optional[Step] = None
        self._losses: Optional[PerSampleLosses] = None
        self._losses_of: Optional[nn.Module] = None

    # -- what a method decides --

    # Whether the losses of the samples are watched. SAM does without, and so
    # works for losses that do not separate into samples.
    needs_losses = False

    def draw(self, data: Any) -> Optional[Draw]:
        """Which samples of a batch the passes see.

        Args:
            data (dict | tuple | list): What the data loader returned, on the
                CPU.

        Returns:
            Draw, optional: The draw, or None if both passes see everything.
        """
        return None

    def observe(self, step: Step) -> None:
        """Learns from the losses of a finished step.

        Args:
            step (Step): The step; ``first`` and ``second`` hold the samples'
                losses at w and at w + eps.
        """

    # -- the step --

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of the first forward pass.

        Args:
            model (nn.Module): The outermost model.
        """
        inner = model.module if is_model_wrapper(model) else model
        self._step = step = Step(model, inner)
        if self.needs_losses and self._losses_of is not inner:
            self._losses = PerSampleLosses(inner, self._laws)
            self._losses_of = inner
        preprocessor = getattr(inner, 'data_preprocessor', None)
        with ExitStack() as stack:
            for module, hook in ((preprocessor, self._cut), (model,
                                                             self._capture)):
                if module is not None:
                    handle = module.register_forward_pre_hook(
                        hook, with_kwargs=True)
                    stack.callback(handle.remove)
            stack.enter_context(self._watch(step, 'first'))
            # Decided inside, by the draw; left with the context.
            self._pass_stack = stack
            with self.base.optim_context(model):
                yield

    def update_params(self,
                      loss: Tensor,
                      step_kwargs: Optional[dict] = None,
                      zero_kwargs: Optional[dict] = None) -> None:
        """Climbs with the loss's gradient, runs the second pass, and steps.

        Args:
            loss (Tensor): The loss of the first pass.
            step_kwargs (dict, optional): Arguments of ``optimizer.step``.
            zero_kwargs (dict, optional): Arguments of
                ``optimizer.zero_grad``.
        """
        step = self._finished_first_pass()
        norm = self._first_gradient(loss)
        second = None
        try:
            if math.isfinite(norm):
                second = self._second_pass(step)
        finally:
            self.perturbation.restore()
        if second is None:
            # As after an overflow: the step is as if it had not been.
            self.skipped_climbs += 1
            self.base._inner_count += 1
        else:
            self.observe(step)
        if self.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))
        self.num_steps += 1
        self._log(step, norm)

    def _first_gradient(self, loss: Tensor) -> float:
        """Back-propagates the first pass and climbs; returns the norm.

        The gradients that were accumulated before are set aside meanwhile.
        """
        params = [p for group in self.optimizer.param_groups
                  for p in group['params']]
        accumulated = [p.grad for p in params]
        for p in params:
            p.grad = None
        # Not self.backward: that counts the micro-batches of a step. The
        # factors of accumulation and loss scaling cancel in g / ||g||.
        count = self.base._inner_count
        self.base.backward(loss)
        self.base._inner_count = count
        norm = self.perturbation.climb(self.optimizer.param_groups)
        for p, grad in zip(params, accumulated):
            p.grad = grad
        return norm

    def _second_pass(self, step: Step) -> Optional[Tensor]:
        """Runs the second pass; None, with no gradient, if it went wrong."""
        same = step.draw is None or step.draw.same
        if self.match_rng and same:
            _set_rng(step.rng)
        # Statistics have moved in the first pass unless it saw less.
        still = frozen_statistics(step.inner) if same else nullcontext()
        with self._watch(step, 'second'), still, \
                self.base.optim_context(step.model):
            losses = step.model(*step.args, **step.kwargs)
        loss, _ = step.inner.parse_losses(losses)
        if not bool(loss.isfinite()):
            return None
        self.backward(self.scale_loss(loss))
        return loss

    def _finished_first_pass(self) -> Step:
        name = type(self).__name__
        step, self._step = self._step, None
        if step is None:
            raise RuntimeError(
                f'{name}.update_params came without optim_context(model) '
                'around the forward pass: call it there, as '
                'BaseModel.train_step does; DeepSpeed, ColossalAI and '
                'OptimWrapperDict do not, so use DDP or FSDP and one '
                'optimizer.')
        if step.num_calls != 1:
            raise RuntimeError(
                f'{name} repeats one forward pass of the model, but inside '
                f'optim_context the model was called {step.num_calls} times: '
                'call the model itself, not its parts, exactly once in '
                'train_step.')
        if self.needs_losses:
            self._losses.check_called(step.first)
        return step

    # -- hooks of the first pass --

    def _cut(self, module: nn.Module, args: tuple, kwargs: dict):
        """Hands the data preprocessor only what the passes see."""
        data = args[0] if args else kwargs['data']
        step = self._step
        step.draw = draw = self.draw(data)
        size = draw.size if draw else _size_or_zero(data)
        self.samples_loaded += size
        self.samples_backpropagated += (
            len(draw.climb) + len(draw.descend) if draw else 2 * size)
        if draw is None:
            return None
        step.first = PassRecord(
            len(draw.climb), draw.size, draw.climb_weights)
        step.second = PassRecord(
            len(draw.descend), draw.size, draw.descend_weights)
        if not draw.same:
            # The pass that sees more samples knows their statistics better.
            self._pass_stack.enter_context(frozen_statistics(step.inner))
        if len(draw.descend) == draw.size:
            return None
        data = take(data, draw.descend, draw.size)
        return ((data, *args[1:]), kwargs) if args else (args, {
            **kwargs, 'data': data
        })

    def _capture(self, module: nn.Module, args: tuple, kwargs: dict):
        """Keeps the call for the second pass; hands the first pass S1."""
        step = self._step
        step.num_calls += 1
        step.args, step.kwargs = args, kwargs
        step.rng = _get_rng(step.inner) if self.match_rng else None
        draw = step.draw
        if self.needs_losses and draw is None:
            raise RuntimeError(
                f'{type(self).__name__} chooses samples where the model '
                'preprocesses its data, but train_step did not call '
                'data_preprocessor: call it inside optim_context.')
        if draw is None or draw.same:
            return None
        num = len(draw.descend)
        return (take(args, draw.climb, num), take(kwargs, draw.climb, num))

    def _watch(self, step: Step, which: str):
        if not self.needs_losses:
            return nullcontext()
        return self._losses.watch(lambda: getattr(step, which))

    # -- logging --

    def _log(self, step: Step, norm: float) -> None:
        """Writes ``train/ausam/*``, which MMEngine's backends show."""
        draw = step.draw
        scalars = dict(
            share_used=len(draw.descend) / draw.size if draw else 1.,
            grad_norm=norm,
            skipped_climbs=self.skipped_climbs,
            samples_loaded=self.samples_loaded,
            samples_backpropagated=self.samples_backpropagated)
        scalars.update(self.scalars(step))
        for name, value in scalars.items():
            self.message_hub.update_scalar(f'train/ausam/{name}', value)

    def scalars(self, step: Step) -> Dict[str, float]:
        """What a method logs besides, without the prefix ``train/ausam/``.

        Args:
            step (Step): The finished step.

        Returns:
            dict[str, float]: Names and values.
        """
        return {}

    # -- state --

    def method_state(self) -> dict:
        """What a method keeps between steps: tensors and primitives only."""
        return dict(
            num_steps=self.num_steps,
            samples_loaded=self.samples_loaded,
            samples_backpropagated=self.samples_backpropagated,
            skipped_climbs=self.skipped_climbs,
            laws=dict(self._laws))

    def load_method_state(self, state: dict) -> None:
        """Takes up what :meth:`method_state` returned, as far as it is there.

        Args:
            state (dict): The state of this or of another method.
        """
        for name in ('num_steps', 'samples_loaded', 'samples_backpropagated',
                     'skipped_climbs'):
            setattr(self, name, state.get(name, 0))
        self._laws.clear()
        self._laws.update(state.get('laws', {}))

    def state_dict(self) -> dict:
        """The base's state with the method's under the key 'ausam_mm'.

        A plain OptimWrapper loads it and leaves the method's part out.
        """
        state = self.base.state_dict()
        state[STATE] = self.method_state()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads a checkpoint of this or of any other wrapper.

        Args:
            state_dict (dict): What the wrapper that saved it returned. If it
                has no state of a two-pass method, the method starts anew and
                a warning says so.
        """
        state_dict = copy.copy(state_dict)
        state = state_dict.pop(STATE, None)
        self.base.load_state_dict(state_dict)
        self._fill_in_rho()
        if state is None:
            print_log(
                'The checkpoint was written without a two-pass method: '
                f'{type(self).__name__} starts with an empty state.',
                logger='current',
                level=30)
        else:
            self.load_method_state(state)

    def _fill_in_rho(self) -> None:
        """Puts rho where paramwise_cfg or a checkpoint has put none."""
        for group in self.param_groups:
            group.setdefault('rho', self.rho)

    # -- composition --

    def __getattr__(self, name: str) -> Any:
        # Whatever is not the engine's is the base's: optimizer, message_hub,
        # loss_scaler, clip_grad_kwargs, base_param_settings, ...
        if name == 'base':
            raise AttributeError(name)
        return getattr(self.base, name)

    def backward(self, loss: Tensor, **kwargs) -> None:
        """The base's backward pass, which counts the micro-batches."""
        self.base.backward(loss, **kwargs)

    def step(self, **kwargs) -> None:
        """The base's step; schedulers count the calls of this method."""
        self.base.step(**kwargs)

    def zero_grad(self, **kwargs) -> None:
        """The base's zero_grad."""
        self.base.zero_grad(**kwargs)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The base's division of the loss by the accumulation."""
        return self.base.scale_loss(loss)

    def should_update(self) -> bool:
        """Whether the base steps after this micro-batch."""
        return self.base.should_update()

    def should_sync(self) -> bool:
        """Whether the base synchronises gradients in this micro-batch."""
        return self.base.should_sync()

    def initialize_count_status(self, *args, **kwargs) -> None:
        """The base's count of micro-batches."""
        self.base.initialize_count_status(*args, **kwargs)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(rho={self.rho}, base={self.base!r})'

    # -- construction --

    def _build_base(self, optimizer: Optimizer, base: Any,
                    accumulative_counts: int,
                    clip_grad: Optional[dict]) -> OptimWrapper:
        name = type(self).__name__
        if isinstance(base, (OptimWrapper, OptimWrapperDict)):
            raise TypeError(f'base of {name} must be a config such as '
                            "dict(type='OptimWrapper'), not a built "
                            f'{type(base).__name__}.')
        base = dict(base or {})
        base.setdefault('type', 'OptimWrapper')
        base.setdefault('accumulative_counts', accumulative_counts)
        base.setdefault('clip_grad', copy.copy(clip_grad))
        if base['type'] not in ('OptimWrapper', OptimWrapper):
            raise NotImplementedError(
                f"base=dict(type={base['type']!r}) is not supported by {name} "
                "yet: train in fp32 with base=dict(type='OptimWrapper').")
        if base['accumulative_counts'] != 1:
            raise NotImplementedError(
                f"accumulative_counts={base['accumulative_counts']} is not "
                f'supported by {name} yet: set it to 1 and raise batch_size.')
        if get_world_size() > 1:
            raise NotImplementedError(
                f'{name} does not train on {get_world_size()} processes yet: '
                'start one process.')
        return OPTIM_WRAPPERS.build(
            base, default_args=dict(optimizer=optimizer))

    @classmethod
    def _unknown_option(cls, name: str) -> str:
        known: List[str] = []
        for parent in cls.__mro__:
            if issubclass(parent, TwoPassOptimWrapper):
                known += inspect.signature(parent.__init__).parameters
        known = sorted(set(known) - {'self', 'unknown', 'kwargs', 'optimizer'})
        close = difflib.get_close_matches(name, known, n=1)
        remedy = f'did you mean {close[0]!r}?' if close else \
            f'it knows {", ".join(known)}.'
        return f'{cls.__name__} has no option {name!r}: {remedy}'


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm normalises with the batch but leaves its statistics alone.

    Neither the running means and variances nor ``num_batches_tracked`` move.

    Args:
        model (nn.Module): The model.
    """
    changed = []
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.training \
                and module.track_running_stats:
            changed.append((module, 'track_running_stats', True))
            module.track_running_stats = False
        elif isinstance(module, _InstanceNorm) and module.training:
            changed.append((module, 'momentum', module.momentum))
            module.momentum = 0.
    try:
        yield
    finally:
        for module, name, value in changed:
            setattr(module, name, value)


def _get_rng(model: nn.Module) -> dict:
    """States of the CPU's and the model's device's random generators."""
    state = dict(cpu=torch.get_rng_state())
    device = next(model.parameters()).device
    if device.type != 'cpu':
        state[device] = getattr(torch, device.type).get_rng_state(device)
    return state


def _set_rng(state: dict) -> None:
    for device, value in state.items():
        if device == 'cpu':
            torch.set_rng_state(value)
        else:
            getattr(torch, device.type).set_rng_state(value, device)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _size_or_zero(data: Any) -> int:
    """The batch's size, or 0 for batches that only their model understands."""
    try:
        return batch_size(data)
    except ValueError:
        return 0
