"""The engine of every method that perturbs the weights in a training step."""

import math
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
from mmengine.dist import (
    all_reduce_params,
    get_world_size,
)
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from ..checks import is_number, require
from ..losses import PerSampleLosses
from ..losses.per_sample import PassRecord
from ..sampling import Draw, batch_size, take
from .composition import ComposedOptimWrapper
from .decisions import Decisions, Step
from .memory import ParameterMemory
from .passes import (
    frozen_statistics,
    get_rng,
    is_fsdp,
    set_rng,
    sharding_group,
    unsynchronised,
)
from .perturbation import Perturbation
from .state import CheckpointState


class TwoPassOptimWrapper(Decisions, CheckpointState, ComposedOptimWrapper):
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

    A method overrides what it decides otherwise: see :class:`Decisions`.

    Attributes:
        sample_weights (Tensor, optional): What the loss of each sample of the
            next batch is multiplied with, shape (b, ), set by whoever prunes
            the data and used up by the step. Defaults to None.
        last_losses (tuple, optional): After a step with ``sample_weights``
            the positions in the batch of the samples that the first pass saw,
            shape (k1, ), int64, and their losses at w, shape (k1, ).

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
        require(
            is_number(rho) and rho >= 0 and math.isfinite(rho),
            f'rho={rho!r} is no radius: set rho >= 0, for example 0.05.')
        require(
            is_number(eta) and eta >= 0, f'eta={eta!r} must not be negative: '
            'set eta >= 0, for example 0.01.')
        super().__init__(optimizer, base, accumulative_counts, clip_grad)
        self.rho = rho
        self.match_rng = match_rng
        self.sync_perturbation = sync_perturbation
        self.perturbation = Perturbation(adaptive, eta)
        for group in self.param_groups:  # where paramwise_cfg has put none
            group.setdefault('rho', rho)

        self.num_steps = 0
        self.num_updates = 0
        self.samples_offered = 0
        self.samples_loaded = 0
        self.samples_backpropagated = 0
        self.samples_scored = 0
        self.skipped_climbs = 0
        self.skipped_steps = 0
        self._sharded = False
        self._micro_batch = 0  # within the optimizer's step
        self._laws: Dict[str, str] = {}
        self._step: Optional[Step] = None
        self._losses: Optional[PerSampleLosses] = None
        self._losses_of: Optional[nn.Module] = None
        self._first_gradients: Dict[nn.Parameter, Tensor] = {}
        self.memories: List[ParameterMemory] = []
        self.sample_weights: Optional[Tensor] = None
        self.last_losses: Optional[Tuple[Tensor, Tensor]] = None

    # -- the step --

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of the first forward pass.

        Args:
            model (nn.Module): The outermost model.

        Raises:
            ValueError: For accumulation on DDP's static graph.
        """
        inner = model.module if is_model_wrapper(model) else model
        if getattr(model, 'static_graph', False) and \
                self.base._accumulative_counts > 1:
            raise ValueError(
                'DistributedDataParallel cannot accumulate gradients on a '
                'static graph, with whatever wrapper: leave static_graph or '
                'accumulative_counts out.')
        self._step = step = Step(model, inner, self.two_passes())
        self._sharded = is_fsdp(model)
        if self.watching and self._losses_of is not inner:
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
            if step.two_passes:
                # Whether DDP reduces gradients is decided in the forward
                # pass.
                stack.enter_context(unsynchronised(model))
            else:
                self.move_before(self._parameters(), sharding_group(model))
            try:
                with self.base.optim_context(model):
                    yield
            except BaseException:
                self.perturbation.restore()
                raise

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
        params = self._parameters()
        try:
            self.samples_backpropagated += (
                len(step.draw.climb) if step.draw else step.size)
            if step.two_passes:
                self._climb_and_descend(step, loss, params)
            else:
                self.backward(self.scale_loss(loss))
        finally:
            self.perturbation.restore()
        self._micro_batch += 1
        if self.should_update():
            self._micro_batch = 0
            self._refine(step, params, self._loss_scale(loss))
            if self.base_skips_overflow or self._gradient_is_finite(step):
                self.step(**(step_kwargs or {}))
            else:
                self.skipped_steps += 1
            self.zero_grad(**(zero_kwargs or {}))
            self.num_updates += 1
        self._finish(step)

    @_disable_dynamo
    def _finish(self, step: Step) -> None:
        """Learns from a step and logs it."""
        # From here on the host waits for the device, as the Runner does when
        # it logs the loss.
        if step.norm is not None and not math.isfinite(step.norm):
            self.skipped_climbs += 1
        self.last_losses = None
        if self.sample_weights is not None:
            seen = step.draw.descend[step.draw.climb]
            self.last_losses = seen, step.first.losses.cpu()
            self.sample_weights = None
        self.observe(step)
        self.num_steps += 1
        self._log(step)

    @_disable_dynamo
    def _climb_and_descend(self, step: Step, loss: Tensor,
                           params: List[nn.Parameter]) -> None:
        """First gradient at w, climb to w + eps, second gradient there.

        The gradients that were accumulated before are set aside meanwhile.
        """
        accumulated = [p.grad for p in params]
        for p in params:
            p.grad = None
        # Not self.backward: that counts the micro-batches of a step. The
        # factors of accumulation and loss scaling cancel in g / ||g||.
        count = self.base._inner_count
        chosen = self.differentiated(step, params)
        with self._statistics(step, 'first'):
            self.base.backward(
                loss, **({} if len(chosen) == len(params) else dict(
                    inputs=[p for p in chosen if p.requires_grad])))
        self.base._inner_count = count
        if self.sync_perturbation and get_world_size() > 1:
            _average_gradients(params)
        scale = self._loss_scale(loss)
        second = self.needs_second_pass(step, params, scale)
        if self.keeps_first_gradient or not second:
            # What of it is this micro-batch's share of the optimizer's step.
            share = self.scale_loss(torch.ones_like(scale))
        if second:
            if self.keeps_first_gradient:
                self._keep_first_gradient(params, share)
            self.direct(step, params, scale)
            step.norm = self.perturbation.climb(
                self.optimizer.param_groups, sharding_group(step.model),
                self.radius_factor) / scale
        for p, grad in zip(params, accumulated):
            first, p.grad = p.grad, grad
            if not second and first is not None:
                first = first * share.to(first)
                p.grad = first if grad is None else grad.add_(first)
        if second:
            self._second_pass(step)
            return
        self.base._inner_count += 1  # as the backward pass would have
        if self.should_update() and not self._sharded and \
                get_world_size() > 1:
            _average_gradients(params)

    def _second_pass(self, step: Step) -> None:
        """Runs the second pass forwards and backwards."""
        args, kwargs = step.args, step.kwargs
        same = step.draw is None or step.draw.same
        if self.scores_before == 'second':
            if self.match_rng:
                set_rng(step.rng)
            seen = self.select(step, self._score(step, 'second', args, kwargs))
            same = len(seen) == step.size
            step.second = self._record(step, seen)
            args, kwargs = (take(part, seen, step.size)
                            for part in (args, kwargs))
        if self.match_rng and same:
            set_rng(step.rng)
        self.samples_backpropagated += (
            step.second.num_samples if step.second else step.size)
        with self._statistics(step, 'second'):
            with self._watch(step, 'second'), \
                    self.base.optim_context(step.model):
                losses = step.model(*args, **kwargs)
            loss, _ = step.inner.parse_losses(losses)
            # The factor is 1, or NaN if either pass went wrong: then so do
            # the gradients, and every process and loss scaler sees it.
            # In the norm's precision, which a half-precision loss has not.
            ok = 1 + 0 * (step.norm + loss.detach())
            self.backward(self.scale_loss(loss) * ok.to(loss))

    def _score(self, step: Step, which: str, args: tuple,
               kwargs: dict) -> Tensor:
        """The losses of all samples, by a forward pass without gradient."""
        setattr(step, which, PassRecord(step.size, step.size))
        self.samples_scored += step.size
        with ExitStack() as stack:
            if which == 'second':  # the first pass is in both already
                stack.enter_context(self._watch(step, which))
                stack.enter_context(self.base.optim_context(step.model))
            stack.enter_context(unsynchronised(step.model))
            stack.enter_context(frozen_statistics(step.inner))
            with torch.no_grad():
                step.model(*args, **kwargs)
        # Older PyTorch would give the next pass the weights that it cast
        # here, which have no gradient (pytorch/pytorch#112583).
        torch.clear_autocast_cache()
        return getattr(step, which).losses

    def _statistics(self, step: Step, which: str):
        """BatchNorm's statistics move in one pass only.

        That is the first, or where it sees less the second, which knows them
        better. Backward passes count, too: checkpointed activations are
        computed again there.
        """
        return nullcontext() if which == step.moving else frozen_statistics(
            step.inner)

    def _parameters(self) -> List[nn.Parameter]:
        return [p for group in self.optimizer.param_groups
                for p in group['params']]

    def _loss_scale(self, like: Tensor) -> Tensor:
        """The factor of loss scaling, 1 without, shape ()."""
        one = torch.ones((), device=like.device, dtype=torch.promote_types(
            like.dtype, torch.float32))
        scaler = getattr(self.base, 'loss_scaler', None)
        return scaler.scale(one) if scaler else one

    def _keep_first_gradient(self, params: List[nn.Parameter],
                             share: Tensor) -> None:
        for p in params:
            if p.grad is not None:
                part = p.grad * share.to(p.grad)
                before = self._first_gradients.get(p)
                self._first_gradients[p] = part if before is None \
                    else before.add_(part)

    @_disable_dynamo
    @torch.no_grad()
    def _refine(self, step: Step, params: List[nn.Parameter],
                scale: Tensor) -> None:
        """Lets the method change the gradient that the optimizer gets."""
        params = [p for p in params if p.grad is not None]
        first = None
        if self.keeps_first_gradient and step.norm is not None:
            first = [self._first_gradients.get(p) for p in params]
            first = [torch.zeros_like(p) if grad is None else grad
                     for p, grad in zip(params, first)]
            if get_world_size() > 1 and not self._sharded:
                all_reduce_params(first, op='mean')
            self._first_gradients.clear()
        self.refine(params, first, scale, sharding_group(step.model))

    def _gradient_is_finite(self, step: Step) -> bool:
        """Whether to step, where the base does not skip overflows itself.

        A loss that is NaN makes gradients NaN from the last layer on (see
        _second_pass), so that biases, normalisation and the last parameter
        tell it at no cost.
        """
        grads = [p.grad for group in self.optimizer.param_groups
                 for p in group['params'] if p.grad is not None]
        grads = [grad for grad in grads[:-1] if grad.ndim < 2] + grads[-1:]
        norm = self.perturbation.norm(grads, sharding_group(step.model))
        return math.isfinite(norm)

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
        if self.watching:
            self._losses.check_called(step.first)
        return step

    # -- hooks of the first pass --

    @_disable_dynamo
    def _cut(self, module: nn.Module, args: tuple, kwargs: dict):
        """Hands the data preprocessor only what the passes see."""
        data = args[0] if args else kwargs['data']
        step = self._step
        step.draw = draw = self.draw(data)
        step.size = draw.size if draw else _size_or_zero(data)
        self.samples_offered += step.size
        self.samples_loaded += draw.loaded if draw else step.size
        if draw is None:
            return None
        step.first = self._record(step, draw.descend[draw.climb],
                                  draw.climb_weights)
        step.second = self._record(step, draw.descend, draw.descend_weights)
        if step.two_passes and not draw.same:
            step.moving = 'second'
        self._pass_stack.enter_context(self._statistics(step, 'first'))
        if len(draw.descend) == draw.loaded:
            return None
        data = take(data, draw.descend, draw.loaded)
        return ((data, *args[1:]), kwargs) if args else (args, {
            **kwargs, 'data': data
        })

    @_disable_dynamo
    def _capture(self, module: nn.Module, args: tuple, kwargs: dict):
        """Keeps the call for the second pass; hands the first pass S1."""
        step = self._step
        if self.scores_before == 'first' and torch.is_grad_enabled():
            args, kwargs = self._narrow(step, args, kwargs)
        elif not torch.is_grad_enabled():  # the scoring itself
            return None
        step.num_calls += 1
        step.args, step.kwargs = args, kwargs
        step.rng = get_rng(step.inner) if self.match_rng else None
        draw = step.draw
        if self.watching and draw is None:
            raise RuntimeError(
                f'{type(self).__name__} chooses samples where the model '
                'preprocesses its data, but train_step did not call '
                'data_preprocessor: call it inside optim_context.')
        if draw is None or draw.same:
            return args, kwargs
        num = len(draw.descend)
        return (take(args, draw.climb, num), take(kwargs, draw.climb, num))

    def _narrow(self, step: Step, args: tuple, kwargs: dict) -> tuple:
        """Both passes see what is selected from the scored batch."""
        seen = self.select(step, self._score(step, 'first', args, kwargs))
        step.draw = Draw(step.size, seen, torch.arange(len(seen)))
        step.first = self._record(step, seen)
        step.second = self._record(step, seen)
        return tuple(take(part, seen, step.size) for part in (args, kwargs))

    @property
    def watching(self) -> bool:
        """Whether the losses of the samples are watched in the next step."""
        return self.needs_losses or self.sample_weights is not None

    def _record(self, step: Step, seen: Tensor,
                weights: Optional[Tensor] = None) -> PassRecord:
        """The record of a pass over samples, with their weights if any."""
        given = self.sample_weights
        if given is not None and not bool((given == 1).all()):
            weights = given[seen] * (
                1 / len(seen) if weights is None else weights)
        return PassRecord(len(seen), step.size, weights)

    def _watch(self, step: Step, which: str):
        if not self.watching:
            return nullcontext()
        return self._losses.watch(lambda: getattr(step, which))

    def starts_update(self) -> bool:
        """Whether the next micro-batch is the first of an optimizer's step."""
        return self._micro_batch == 0

    def progress(self) -> float:
        """The share of the training that is over, from 0 to 1.

        Raises:
            ValueError: If nobody said how long the training is.
        """
        require(
            self.base._max_counts > 0,
            f'{type(self).__name__} follows a schedule over the training but '
            'does not know how long that is: train with a Runner, or call '
            'initialize_count_status(model, 0, number_of_iterations).')
        return min(1., self.base._inner_count / self.base._max_counts)

    # -- logging --

    def _log(self, step: Step) -> None:
        """Writes ``train/ausam/*``, which MMEngine's backends show."""
        last = step.second if step.two_passes else step.first
        scalars = dict(
            share_used=last.num_samples / step.size if last else 1.,
            two_passes=float(step.norm is not None),
            skipped_climbs=self.skipped_climbs,
            skipped_steps=self.skipped_steps,
            samples_loaded=self.samples_loaded,
            samples_backpropagated=self.samples_backpropagated)
        if self.scores_before:
            scalars['samples_scored'] = self.samples_scored
        if step.norm is not None:
            scalars['grad_norm'] = float(step.norm)
        scalars.update(self.scalars(step))
        for name, value in scalars.items():
            self.message_hub.update_scalar(f'train/ausam/{name}', value)


def _average_gradients(params: List[nn.Parameter]) -> None:
    """Averages the gradients over the processes."""
    params = [p for p in params if p.requires_grad]
    for p in params:
        if p.grad is None:  # it may have one in another process
            p.grad = torch.zeros_like(p)
    all_reduce_params([p.grad for p in params], op='mean')


def _size_or_zero(data: Any) -> int:
    """The batch's size, or 0 for batches that only their model understands."""
    try:
        return batch_size(data)
    except ValueError:
        return 0
