"""What MMEngine calls in a training step, and what a method decides in it."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from ..checks import is_number, require
from ..internals import accumulation, total_micro_batches
from ..losses import PerSampleLosses
from ..sampling import Selection, batch_size
from .base_wrapper import ComposedOptimWrapper
from .distributed import from_group_state
from .forward_state import ForwardState
from .isolation import StatisticsCopy, has_batch_statistics
from .param_state import ParamState, forget_others
from .perturbation import Perturbation
from .report import Report
from .step import Step

# Under this name the state of a method lies in a checkpoint's 'optimizer'.
STATE = 'ausam_mm'
COUNTERS = ('num_steps', 'num_updates', 'samples_offered', 'samples_loaded',
            'samples_backpropagated', 'samples_scored',
            'skipped_perturbations', 'skipped_steps')


class TwoPassOptimWrapper(ComposedOptimWrapper):
    """Runs a first pass, a perturbation, a second pass, and the base's step.

    The wrapper decides what is run; the ``base`` wrapper casts, scales, clips
    and steps. It needs nothing but ``optim_context(model)`` around the
    forward pass and ``update_params(loss)`` after it, which is what the
    ``train_step`` of every MMEngine model does. A :class:`Step` holds the
    state of one step and runs it.

    A method inherits from this class and overrides what it decides; as it
    stands here, it is SAM. In the order of a step: :meth:`uses_two_passes`,
    :meth:`perturb_before_pass` (steps of one pass), :meth:`select`,
    :meth:`select_by_loss` or :meth:`needs_gradient_norms` and
    :meth:`select_by_gradient_norm`, :meth:`params_to_perturb`,
    :meth:`gradient_weights`, :meth:`needs_second_pass`,
    :meth:`set_ascent_direction`, :meth:`refine`, :meth:`after_update`,
    :meth:`observe`.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. It is put into the
            optimizer's param groups, so that schedulers
            (``param_name='rho'``) and ``paramwise_cfg`` can change it.
        adaptive (bool): Whether the radius scales with each weight (ASAM).
            Defaults to False.
        eta (float): What ASAM adds to a weight's size. Defaults to 0.01.
        match_rng (bool): Whether dropout, DropPath and other random layers
            draw the same in both passes, where both see the same samples.
            Defaults to True.
        sync_perturbation (bool): Whether all processes perturb alike, along
            the mean of their gradients, instead of each on its own. With one
            process there is no difference. Defaults to False.
        base (dict, optional): The wrapper that casts, clips and steps, as a
            config without optimizer. Defaults to None, for
            ``dict(type='OptimWrapper')``.
        accumulative_counts (int): Handed to the base. Defaults to 1.
        clip_grad (dict, optional): Handed to the base, which clips the second
            gradient. Defaults to None.
        max_skipped_steps (int): Steps in a row that may be skipped, for a
            gradient that is not finite, before the training stops. Defaults
            to 50.

    Attributes:
        needs_losses (bool): Whether the losses of the samples are watched.
            SAM does without, and so works for losses that are not separable.
        scores_before (str, optional): The pass before which all samples are
            scored by a forward pass without gradient, to select those it
            sees: 'first', 'second', or None.
        keeps_first_gradient (bool): Whether :meth:`refine` is given the
            gradient of the first passes.
        second_pass_after_step (bool): Whether steps of one pass repeat it
            after the optimizer's step, in :meth:`after_update`.
        radius_factor (float): What the radius is multiplied with.
        saved (tuple[str]): Attributes of the method that a checkpoint holds:
            tensors and primitives.
        param_states (list[ParamState]): What the method keeps of each
            parameter; a checkpoint holds it, too.
        sample_weights (Tensor, optional): What the loss of each sample of the
            next batch is multiplied with, shape (b, ), set by whoever prunes
            the data and used up by the step. Defaults to None.
        last_losses (tuple, optional): After a step with ``sample_weights``
            the positions in the batch of the samples that the first pass saw,
            shape (k1, ), int64, and their losses at w, shape (k1, ).

    Raises:
        TypeError: For unknown options.
        ValueError: For values out of range.
    """

    needs_losses = False
    scores_before: str | None = None
    keeps_first_gradient = False
    second_pass_after_step = False
    radius_factor = 1.
    saved: tuple[str, ...] = ()

    def __init__(self,
                 optimizer: Optimizer,
                 rho: float = 0.05,
                 adaptive: bool = False,
                 eta: float = 0.01,
                 match_rng: bool = True,
                 sync_perturbation: bool = False,
                 base: dict[str, Any] | None = None,
                 accumulative_counts: int = 1,
                 clip_grad: dict[str, Any] | None = None,
                 max_skipped_steps: int = 50,
                 **unknown: Any) -> None:
        if unknown:
            raise TypeError(self._unknown_option(next(iter(unknown))))
        require(
            is_number(rho) and rho >= 0 and math.isfinite(rho),
            f'rho={rho!r} is no radius: set rho >= 0, for example 0.05.')
        require(
            is_number(eta) and eta >= 0, f'eta={eta!r} must not be negative: '
            'set eta >= 0, for example 0.01.')
        require(
            isinstance(max_skipped_steps, int) and max_skipped_steps >= 1,
            f'max_skipped_steps={max_skipped_steps!r} is no number of steps: '
            'set at least 1, for example 50.')
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
        self.skipped_perturbations = 0
        self.skipped_steps = 0
        self.max_skipped_steps = max_skipped_steps
        self.skipped_in_a_row = 0
        self.least_samples = 1  # that a pass can see
        self.knows_least_samples = False
        self.micro_batch = 0  # within the optimizer's step
        self.param_states: list[ParamState] = []
        self.sample_weights: Tensor | None = None
        self.last_losses: tuple[Tensor, Tensor] | None = None
        # Micro-batches whose second passes follow the optimizer's step.
        self.repeated_later: list[Step] = []
        self._first_gradients: dict[nn.Parameter, Tensor] = {}
        self._losses: PerSampleLosses | None = None
        self._losses_state: dict[str, Any] = {}  # of a checkpoint
        self._forward_state: ForwardState | None = None
        self._statistics: StatisticsCopy | None = None
        self.report = Report()
        self._step: Step | None = None

    # -- what MMEngine calls --

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of the first forward pass.

        Raises:
            ValueError: For accumulation on DDP's static graph.
            RuntimeError: If ``train_step`` has finished the step before by
                itself.
        """
        require(
            not getattr(model, 'static_graph', False)
            or accumulation(self.base) == 1,
            'DistributedDataParallel cannot accumulate gradients on a static '
            'graph, with any OptimWrapper: leave static_graph or '
            'accumulative_counts out.')
        # Steps that an exception has ended, or that train_step gave up, leave
        # the weights.
        last, self._step = self._step, None
        finished = last is not None and last.weights_moved()
        self.undo.run()  # what an interrupted step has left
        self.perturbation.restore()
        if finished:
            raise self._finished_alone('the optimizer has stepped')
        if self._statistics is None or self._statistics.model is not model:
            self._statistics = StatisticsCopy(model)
            self._forward_state = ForwardState(
                getattr(model, 'module', model) if is_model_wrapper(model)
                else model)
            if not self.knows_least_samples and any(
                    module.training and has_batch_statistics(module)
                    for module in model.modules()):
                self.least_samples = 2  # until the first pass shows it
        if self.starts_update():
            self._statistics.save()
            self.repeated_later = []
        self._step = Step(self, model)
        try:
            with self._grad_mode_kept(), self._step.first_forward():
                yield
        except BaseException:
            self._step = None
            raise

    def update_params(self,
                      loss: Tensor,
                      step_kwargs: dict[str, Any] | None = None,
                      zero_kwargs: dict[str, Any] | None = None) -> None:
        """Perturbs by the loss's gradient, runs the second pass, and steps.

        Args:
            loss (Tensor): The loss of the first pass.
            step_kwargs (dict, optional): Arguments of ``optimizer.step``.
            zero_kwargs (dict, optional): Arguments of
                ``optimizer.zero_grad``.

        Raises:
            RuntimeError: If ``train_step`` did not run one forward pass of
                the model inside ``optim_context``.
        """
        step, self._step = self._step, None
        if step is None:
            raise RuntimeError(
                f'{type(self).__name__}.update_params came without '
                'optim_context(model) around the forward pass: call it '
                'there, as BaseModel.train_step does; DeepSpeed, ColossalAI '
                'and OptimWrapperDict do not, so use DDP or FSDP and one '
                'optimizer.')
        step.check_first_forward()
        with self._grad_mode_kept():
            step.run(loss, step_kwargs or {}, zero_kwargs or {})

    @contextmanager
    def _grad_mode_kept(self) -> Iterator[None]:
        """An interrupt at the end of torch.no_grad's block leaves it on."""
        with self.undo.scope():
            self.undo.keep(torch.set_grad_enabled, torch.is_grad_enabled())
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """The base's backward pass, which :meth:`update_params` calls."""
        self._refuse_while_pending('backward')
        super().backward(loss, **kwargs)

    def step(self, **kwargs: Any) -> None:
        """The base's step; schedulers count the calls of this method."""
        self._refuse_while_pending('step')
        super().step(**kwargs)

    def zero_grad(self, **kwargs: Any) -> None:
        """The base's zero_grad, which :meth:`update_params` calls."""
        self._refuse_while_pending('zero_grad')
        super().zero_grad(**kwargs)

    def _refuse_while_pending(self, what: str) -> None:
        if self._step is not None:
            raise self._finished_alone(f'{what} was called')

    def _finished_alone(self, what: str) -> RuntimeError:
        return RuntimeError(
            f'After the first forward pass of {type(self).__name__} {what}, '
            'which leaves out the second pass: call '
            'optim_wrapper.update_params(loss) in train_step instead of '
            'backward, step and zero_grad.')

    # -- what a method decides --

    def uses_two_passes(self) -> bool:
        """Whether the next step starts with a first pass at w."""
        return True

    def perturb_before_pass(self, step: Step) -> None:
        """Perturbs the weights for the only pass, in steps of one pass.

        See :meth:`Step.perturb_along`.
        """

    def select(self, data: Any) -> Selection:
        """Which samples of a batch the passes see.

        Args:
            data (dict | tuple | list): What the data loader returned, on the
                CPU.

        Returns:
            Selection: The full batch, unless a method overrides it. A batch
            that only its model understands has the size 0, if nobody watches
            the losses.
        """
        try:
            return Selection.full_batch(batch_size(data))
        except ValueError:
            if self.watching:
                raise
            return Selection.full_batch(0)

    def select_by_loss(self, step: Step, losses: Tensor) -> Tensor:
        """The samples that the pass after the scoring sees.

        Args:
            step (Step): The step.
            losses (Tensor): The losses of all samples where the weights are,
                shape (b, ).

        Returns:
            Tensor: Positions in the batch, ascending, shape (k, ), int64.
        """
        raise NotImplementedError

    def needs_gradient_norms(self, step: Step) -> bool:
        """Whether the samples of a step are selected by their gradients.

        It costs a forward and a backward pass of each sample, one at a time.
        """
        return False

    def select_by_gradient_norm(self, step: Step,
                                norms: Tensor) -> Selection:
        """Which samples of a batch the passes see.

        Args:
            step (Step): The step.
            norms (Tensor): The norm of the gradient of each sample's loss at
                w, shape (b, ), float64; -inf where it is not finite.
        """
        raise NotImplementedError

    def params_to_perturb(self, step: Step) -> list[nn.Parameter] | None:
        """The parameters that are perturbed; only they need a first gradient.

        Returns:
            list[nn.Parameter], optional: Some that require a gradient; None
            for all.
        """
        return None

    def gradient_weights(self, step: Step) -> tuple[float, float]:
        """What the two passes' gradients count in the optimizer's.

        Returns:
            tuple[float, float]: The factors of the first and of the second
            gradient, whose sum the first gets in a step without second pass.
        """
        return 0., 1.

    def needs_second_pass(self, step: Step) -> bool:
        """Whether to perturb and run the second pass, given the gradient.

        Without it the optimizer gets the first gradient. ``grad`` of the
        parameters is that, times ``step.loss_scale``.
        """
        return True

    def set_ascent_direction(self, step: Step) -> None:
        """Turns the first gradient into the direction of the perturbation.

        ``grad`` of the parameters is the first gradient, times
        ``step.loss_scale``, to be changed in place.
        """

    def refine(self, step: Step, params: list[nn.Parameter],
               first: list[Tensor] | None) -> None:
        """Changes the gradient that the optimizer gets, in place.

        Called once for each of the optimizer's steps, with the gradients of
        all its micro-batches and processes, times ``step.loss_scale``.

        Args:
            step (Step): The last micro-batch's.
            params (list[nn.Parameter]): The parameters that have a gradient.
            first (list[Tensor], optional): The gradient of their first
                passes, if ``keeps_first_gradient`` and the step had two
                passes.
        """

    def after_update(self, step: Step, params: list[nn.Parameter]) -> None:
        """Learns from the weights that the optimizer's step has made.

        Called where ``second_pass_after_step`` is set, once for each of the
        optimizer's steps, also if that was skipped. See
        :meth:`Step.gradient_at_new_weights`.

        Args:
            step (Step): The last micro-batch's.
            params (list[nn.Parameter]): Those that :meth:`refine` was given.
        """

    def observe(self, step: Step) -> None:
        """Learns from a finished step.

        ``step.first`` and ``step.second`` hold the samples' losses at w and
        at w + eps. What is put into ``step.scalars`` is logged.
        """

    def plan(self) -> str:
        """What a training starts with, for its log: rho and so on."""
        group = self.param_groups[-1]
        return f'rho={group["rho"]:g}' + (
            ' (scheduled)' if 'initial_rho' in group else '')

    def cautions(self) -> list[str]:
        """What will not work out in a training of this length.

        Returns:
            list[str]: Warnings that say what to set, mostly none.
        """
        return []

    # -- what methods and steps ask --

    @property
    def watching(self) -> bool:
        """Whether the losses of the samples are watched in the next step."""
        return self.needs_losses or self.sample_weights is not None

    @property
    def forward_state(self) -> ForwardState:
        """What the forward pass of the model changes."""
        assert self._forward_state is not None
        return self._forward_state

    @property
    def reductions(self) -> dict[str, str]:
        """What the total loss makes of each loss module, 'mean' or 'sum'."""
        return self._losses.reductions if self._losses else {}

    @property
    def losses_verified(self) -> bool:
        """Whether a batch has shown how the loss is made of its samples'."""
        return self._losses.verified if self._losses else bool(
            self._losses_state.get('verified'))

    def per_sample_losses(self, model: nn.Module) -> PerSampleLosses:
        """What watches the losses of a model's samples.

        Args:
            model (nn.Module): The model without its distributed wrapper.

        Raises:
            ValueError: If it has no loss module, or one that is not
                separable.
        """
        if self._losses is None or self._losses.model is not model:
            self._losses = PerSampleLosses(model)
            if self._losses_state:
                self._losses.load_state_dict(self._losses_state)
        return self._losses

    def starts_update(self) -> bool:
        """Whether the next micro-batch is the first of an optimizer's step."""
        return self.micro_batch == 0

    def progress(self) -> float:
        """How much of the training was over before this update, from 0 to 1.

        Raises:
            ValueError: If nobody said how long the training is.
        """
        total = total_micro_batches(self.base)
        require(
            total > 0,
            f'{type(self).__name__} follows a schedule over the training but '
            'does not know how long that is: train with a Runner, or call '
            'initialize_count_status(model, 0, number_of_iterations).')
        done = self.inner_count - self.micro_batch
        return float(min(1., done / total))

    def skip_step(self, by_scaler: bool = False) -> None:
        """Leaves a step out whose gradient is not finite, and says so.

        Args:
            by_scaler (bool): Whether a loss scaler has left it out, for which
                that is nothing to speak of. Defaults to False.

        Raises:
            RuntimeError: After ``max_skipped_steps`` in a row.
        """
        self.skipped_steps += not by_scaler
        self.skipped_in_a_row += 1
        if self._statistics is not None:
            self._statistics.restore()
        if self.skipped_in_a_row == 1 and not by_scaler:
            print_log(
                f'{type(self).__name__} skips step {self.num_updates}, whose '
                'gradient is not finite: weights and BatchNorm statistics '
                f'stay. Steps skipped so far: {self.skipped_steps}.',
                logger='current', level=logging.WARNING)
        if self.skipped_in_a_row >= self.max_skipped_steps:
            raise RuntimeError(
                f'{type(self).__name__} has skipped {self.skipped_in_a_row} '
                'steps in a row, whose gradients are not finite, so that '
                'nothing is trained: look for a loss whose gradient is NaN '
                '(torch.autograd.set_detect_anomaly), lower the learning '
                'rate or rho, or raise max_skipped_steps.')

    def keep_first_gradient(self, params: list[nn.Parameter],
                            weight: Tensor) -> None:
        """Adds a micro-batch's first gradient to what :meth:`refine` gets.

        Args:
            params (list[nn.Parameter]): The parameters.
            weight (Tensor): Weight of the micro-batch, shape ().
        """
        for p in params:
            if p.grad is not None:
                part = p.grad * weight.to(p.grad)
                before = self._first_gradients.get(p)
                self._first_gradients[p] = part if before is None \
                    else before.add_(part)

    def take_first_gradients(self,
                             params: list[nn.Parameter]) -> list[Tensor]:
        """What was kept of the update's first gradients, zeros if nothing.

        Returns:
            list[Tensor]: A gradient for each of them.
        """
        kept, self._first_gradients = self._first_gradients, {}
        return [torch.zeros_like(p) if kept.get(p) is None else kept[p]
                for p in params]

    # -- checkpoints --

    def counters(self) -> dict[str, int]:
        """What is counted over the training, by name."""
        return {name: getattr(self, name) for name in COUNTERS}

    def method_state(self) -> dict[str, Any]:
        """What a method keeps between steps: tensors and primitives only."""
        return dict(
            self.counters(),
            loss_modules=self._losses.state_dict() if self._losses
            else self._losses_state,
            least_samples=self.least_samples
            if self.knows_least_samples else None,
            **{name: getattr(self, name) for name in self.saved})

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Takes up what :meth:`method_state` returned, as far as it is there.

        Args:
            state (dict): The state of this or of another method.
        """
        for name in COUNTERS:
            setattr(self, name, state.get(name, 0))
        self._losses_state = state.get('loss_modules', {})
        self._losses = None
        if state.get('least_samples') is not None:
            self.least_samples = state['least_samples']
            self.knows_least_samples = True
        for name in self.saved:
            if name in state:
                setattr(self, name, state[name])

    def state_dict(self) -> dict[str, Any]:
        """The base's state with the method's under the key 'ausam_mm'.

        Checkpoints are interchangeable between wrappers. MMEngine's own
        ignore the key, and keep a ParamState unused.
        """
        for param_state in self.param_states:
            param_state.put_into(self.optimizer)
        state: dict[str, Any] = self.base.state_dict()
        if self.param_states:  # the optimizer's own dicts, which lose it again
            state['state'] = {
                key: dict(of) for key, of in state['state'].items()}
        for param_state in self.param_states:
            param_state.take_from(self.optimizer)
        state[STATE] = self.method_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a checkpoint of this or of any other wrapper.

        Args:
            state_dict (dict): What the wrapper that saved it returned. If it
                has no state of a two-pass method, the method starts anew and
                a warning says so.

        Raises:
            ValueError: If it is no optimizer's state at all.
        """
        require(
            {'state', 'param_groups'} <= set(state_dict),
            'The checkpoint holds no state of an optimizer: resume from one '
            'that MMEngine saved in training, or set `resume=False` and '
            '`load_from` to start with its weights.')
        state_dict = from_group_state(state_dict)
        state = state_dict.pop(STATE, None)
        # The base optimizer's checkpoint has no rho, or that of a method
        # before it: then the config's stays.
        rhos = [group['rho'] for group in self.param_groups]
        if state is None:
            for group in state_dict['param_groups']:
                group.pop('rho', None)
        self.base.load_state_dict(state_dict)
        for param_state in self.param_states:
            param_state.take_from(self.optimizer)
        forget_others(self.optimizer)
        for group, rho in zip(self.param_groups, rhos):
            # Where a scheduler changes it, what it began with.
            resumed = group.get('initial_rho', group.setdefault('rho', rho))
            if resumed != rho:
                print_log(
                    f'The checkpoint resumes rho={resumed:g}, and the config '
                    f'has rho={rho:g}: the checkpoint holds. To train with '
                    "the config's, set resume=False and load_from.",
                    logger='current', level=logging.WARNING)
        if state is None:
            print_log(
                'The checkpoint was written without a two-pass method: '
                f'{type(self).__name__} starts with an empty state.',
                logger='current',
                level=logging.WARNING)
        else:
            self.load_method_state(state)
