"""One training step: its state, and its run."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from ..internals import not_compiled, set_inner_count, version
from ..losses import PassRecord, PerSampleLosses
from ..sampling import Selection, take
from .aside import Aside
from .capture import Call, capture, find_lone_values
from .distributed import average, average_gradients, is_fsdp, sharding_group
from .forward_state import CallCopy
from .isolation import (
    RandomStates,
    frozen_statistics,
    get_random_states,
    set_random_states,
    unrecorded,
    unsynchronized,
)

if TYPE_CHECKING:
    from .wrapper import TwoPassOptimWrapper


class Step:
    """One call of ``train_step``, from optim_context to update_params.

    :meth:`first_forward` is the context of the first forward pass, which the
    model's ``train_step`` runs; :meth:`run` does the rest.

    Args:
        method (TwoPassOptimWrapper): The method, which decides.
        model (nn.Module): The outermost model, which the passes go through.

    Attributes:
        inner (nn.Module): The model without its distributed wrapper.
        params (list[nn.Parameter]): The optimizer's parameters.
        group (ProcessGroup, optional): Processes that share the shards of
            each parameter.
        two_passes (bool): Whether the step was begun as one of two passes.
        repeats (bool): Whether a second pass may follow, be it after the
            optimizer's step.
        selection (Selection): The samples that the passes see.
        first (PassRecord): The samples' losses at w.
        second (PassRecord): The samples' losses at w + eps.
        loss_scale (Tensor): The factor of loss scaling in the gradients,
            shape (); 1 without.
        perturbed (bool): Whether there was a perturbation and a second pass.
        norm (Tensor): Norm of the first gradient, shape (), on the model's
            device; not finite if the first pass overflowed, which leaves the
            weights where they were, and NaN without a perturbation.
        scalars (dict): What the method logs besides, by names without the
            prefix ``train/ausam/``.
    """

    def __init__(self, method: TwoPassOptimWrapper, model: nn.Module) -> None:
        self.method = method
        self.base = method.base
        self.model = model
        inner: Any = model.module if is_model_wrapper(model) else model
        self.inner = inner
        self.params: list[nn.Parameter] = [
            p for group in method.param_groups for p in group['params']]
        self.group = sharding_group(model)
        self.two_passes = method.uses_two_passes()
        self.repeats = self.two_passes or method.second_pass_after_step
        self.selection = Selection.full_batch(0)
        self.first = PassRecord(0, 0)
        self.second = PassRecord(0, 0)
        self.loss_scale = torch.ones(())
        self.perturbed = False
        self.norm = torch.tensor(math.nan)
        self.scalars: dict[str, float | Tensor] = {}

        self._losses: PerSampleLosses | None = (
            method.per_sample_losses(inner) if method.watching else None)
        self._recording = self.first  # of the pass under way
        self._batch: Any = None  # of the data loader
        self._saw_batch = False
        self._is_aside = False
        # Those in which BatchNorm's statistics move.
        self._moving_passes: tuple[str, ...] = ('first', )
        self._call: Call = ((), {})  # what the second pass repeats
        self._copy: CallCopy | None = None  # what the first pass was given
        self._num_calls = 0
        self._output: Any = None  # of the first forward pass
        # The host reads them at the end of the step, where it waits anyway.
        self._read_later: dict[str, Tensor] = {}
        self._lone_values: set[str] = set()
        self._versions: list[int] | None = None  # of the weights after it
        # Of a pass that is repeated after the optimizer's step.
        self._count = 0  # of micro-batches before this one
        self._repeatable = False
        self._random_states: RandomStates | None = None
        self._context = ExitStack()

    # -- the first forward pass, which train_step runs --

    @contextmanager
    def first_forward(self) -> Iterator[None]:
        """The context of the first forward pass."""
        with self._context as context:
            context.enter_context(
                capture(self.model, self.inner, self._on_batch,
                        self._on_call, self._on_output, self.method.undo))
            context.enter_context(self._watched())
            if self._losses is not None and \
                    not self.method.knows_least_samples:
                context.enter_context(
                    find_lone_values(self.inner, self._lone_values,
                                     self.method.undo))
            if self.two_passes:
                # DDP decides in the forward pass whether to reduce gradients.
                context.enter_context(
                    unsynchronized(self.model, self.method.undo))
            try:
                if not self.two_passes:
                    self.method.perturb_before_pass(self)
                # Autocast around the training would keep cast weights from
                # before the last step.
                torch.clear_autocast_cache()
                with self.base.optim_context(self.model):
                    yield
            except BaseException:
                self.restore()
                raise
        self._versions = [version(p) for p in self.params]

    def _on_batch(self, data: Any) -> Any:
        """Hands the data preprocessor only what the passes see."""
        method = self.method
        self._saw_batch = True
        self._batch = data
        selection = method.select(data)
        method.samples_offered += selection.size
        method.samples_loaded += selection.loaded
        self._see(selection)
        seen = selection.seen
        if len(seen) == selection.loaded:
            return data
        return take(data, seen, selection.loaded)

    def _see(self, selection: Selection) -> None:
        """The passes see what was selected."""
        self.selection = selection
        self.first = self._recording = self._record(
            selection.ascent, selection.ascent_weights)
        self.second = self._record(
            selection.descent, selection.descent_weights)
        if self.two_passes and not selection.same_samples:
            self._moving_passes = \
                ('first', 'second') if selection.disjoint else ('second', )
        self._context.enter_context(self._statistics_of('first'))

    def _on_call(self, call: Call) -> Call:
        """Keeps the call for the second pass; the first pass gets its part."""
        if self._is_aside:
            return call
        method, losses = self.method, self._losses
        if losses is not None and not self._saw_batch \
                and method.scores_before != 'first':
            raise RuntimeError(
                f'{type(method).__name__} selects samples where the '
                'model preprocesses its data, but train_step did not call '
                'data_preprocessor: call it inside optim_context.')
        size = len(self.selection.seen)
        is_due = losses is not None and size > 1 and losses.is_due(
            method.num_steps)
        if is_due or self.repeats:
            method.forward_state.save(everything=is_due)
        if is_due:
            self._aside().judge(call, size, self._batch)
        if method.scores_before == 'first':
            call = self._score_and_select(call)
        elif method.needs_gradient_norms(self):
            call = self._select_by_gradient_norm(call)
        self._num_calls += 1
        self._call = call
        if method.match_rng:
            self._random_states = get_random_states(self.inner)
        if not self.repeats:
            return call
        self._copy = CallCopy(call, method.forward_state.copies_call)
        if self.selection.same_samples:
            return self._copy.call
        return self._part(self._copy.call, self.selection.ascent)

    def _on_output(self, output: Any) -> None:
        """Keeps what the first pass returns: it comes last."""
        self._output = output

    def _score_and_select(self, call: Call) -> Call:
        """Both passes see what the method selects by the batch's losses."""
        size = self.selection.size
        seen = self.method.select_by_loss(self, self._score(call))
        self._see(Selection(size, seen, seen))
        return _take(call, seen, size)

    def _select_by_gradient_norm(self, call: Call) -> Call:
        """The passes see what the method selects by the samples' gradients."""
        method, size = self.method, self.selection.size
        method.samples_backpropagated += size
        with self._accumulated_set_aside():
            norms = self._aside().gradient_norms(
                call, size, self._batch, self.params)
        self._see(method.select_by_gradient_norm(self, norms))
        return _take(call, self.selection.descent, size)

    def weights_moved(self) -> bool:
        """Whether something has changed them since the first forward pass."""
        return self._versions is not None and \
            self._versions != [version(p) for p in self.params]

    def check_first_forward(self) -> None:
        """Raises if what ``train_step`` ran cannot be repeated.

        Raises:
            RuntimeError: If the model was not called exactly once.
            ValueError: If no loss module was.
        """
        method, name = self.method, type(self.method).__name__
        if self._num_calls != 1:
            raise RuntimeError(
                f'{name} repeats one forward pass of the model, but inside '
                f'optim_context the model was called {self._num_calls} times: '
                'call the model itself, not its parts, exactly once in '
                'train_step.')
        if self._losses is not None:
            self._losses.check_called(self.first)
            if not method.knows_least_samples:
                method.least_samples = 2 if self._lone_values else 1
                method.knows_least_samples = True

    # -- the rest of the step --

    @not_compiled
    def run(self, loss: Tensor, step_kwargs: dict[str, Any],
            zero_kwargs: dict[str, Any]) -> None:
        """Runs the step from the loss of the first forward pass on.

        1. g: the gradient of the loss at w.
        2. Perturb the weights: w + eps (see :class:`Perturbation`).
        3. Second pass: the losses and the gradient at w + eps.
        4. Restore w; the base optimizer steps with the second gradient, or
           with both (see :meth:`TwoPassOptimWrapper.gradient_weights`).

        Args:
            loss (Tensor): The loss of the first forward pass, shape ().
            step_kwargs (dict): Arguments of ``optimizer.step``.
            zero_kwargs (dict): Arguments of ``optimizer.zero_grad``.
        """
        method = self.method
        if self.repeats:
            self._read_later.update(
                given=loss.detach().reshape(()),
                returned=self._returned_loss())
        self._output = None
        method.samples_backpropagated += len(self.selection.ascent)
        self.loss_scale = method.loss_scale(loss)
        try:
            if not self.two_passes:
                self._count = self.base.inner_count
                method.backward(method.scale_loss(loss))
                if method.second_pass_after_step:
                    self._repeatable = self._rewind()
                    method.repeated_later.append(self)
            else:
                weights = method.gradient_weights(self)
                with self._accumulated_set_aside():
                    self._first_gradient(loss, counts=weights[0] != 0)
                    if method.needs_second_pass(self) and self._rewind():
                        first = self._weighted_gradient(weights[0])
                        self._perturb()
                    else:  # it stands for both
                        first = self._weighted_gradient(sum(weights))
                if self.perturbed:
                    self._second_pass(first, weights[1])
                else:
                    self._accumulate(first)
                    self._leave_second_pass_out()
        finally:
            self.restore()
            method.forward_state.advance()
            if self not in method.repeated_later:
                self._forget()
        method.micro_batch += 1
        if method.should_update():
            method.micro_batch = 0
            params = self._refine()
            self._update(step_kwargs, zero_kwargs)
            if method.second_pass_after_step:
                self._after_update(params)
        self._finish()

    def _forget(self) -> None:
        """Drops what is large.

        A step is in reference cycles with the hooks of its passes, and would
        wait for the garbage collector.
        """
        self._call = (), {}
        self._batch = self._copy = None
        self.first.batch = self.second.batch = None

    @torch.no_grad()
    def _returned_loss(self) -> Tensor:
        """The loss in what the first pass has returned, shape ().

        Raises:
            RuntimeError: If it returned none.
        """
        output, loss = self._output, None
        if isinstance(output, Mapping):
            loss, _ = self.inner.parse_losses(output)
        if not isinstance(loss, Tensor):
            raise RuntimeError(
                f'{type(self.method).__name__} repeats the forward pass, but '
                f'the {type(output).__name__} that the model returned has no '
                'loss: compute losses in its forward, and return a dict that '
                'names them.')
        return loss

    @contextmanager
    def _accumulated_set_aside(self) -> Iterator[None]:
        """Inside, gradients and micro-batches do not add to earlier ones."""
        accumulated = [p.grad for p in self.params]
        undo = self.method.undo
        with undo.scope():
            undo.keep(set_inner_count, self.base, self.base.inner_count)
            undo.keep(_set_gradients, self.params, accumulated)
            _set_gradients(self.params, [None] * len(self.params))
            yield

    def _first_gradient(self, loss: Tensor, counts: bool) -> None:
        """The gradient at w.

        The factors of accumulation and loss scaling cancel in g / ||g||.

        Args:
            loss (Tensor): The loss of the first forward pass, shape ().
            counts (bool): Whether it is a part of the optimizer's gradient,
                which DDP reduces after the second pass, also where only the
                first one has used a parameter.
        """
        method = self.method
        chosen = method.params_to_perturb(self)
        inputs = dict(inputs=chosen) \
            if chosen and self._can_differentiate_some() else {}
        count = self.base.inner_count
        with self._statistics_of('first'), nullcontext() if counts else \
                unrecorded(self.model, self.params, method.undo):
            self.base.backward(loss, **inputs)
        set_inner_count(self.base, count)
        if method.sync_perturbation:
            average_gradients(self.params)
        if chosen is not None:
            for p in set(self.params).difference(chosen):
                p.grad = None

    def _rewind(self) -> bool:
        """Lets the second pass find everything as the first one did.

        Returns:
            bool: Whether it does. Where something has changed for the first
            time, there is no copy of it, and the step has one pass.
        """
        state, copied = self.method.forward_state, self._copy
        lost = state.rewind()
        if copied is not None and copied.has_changed():
            if not state.copies_call:
                lost.append('its inputs')
            state.call_moves = True
        if lost:
            print_log(
                f'Step {self.method.num_steps} has one pass, since the '
                f'forward pass of {type(self.inner).__name__} changed '
                f'{", ".join(lost)} for the first time. From now on both '
                'passes find it as it was.', logger='current',
                level=logging.WARNING)
        return not lost

    def _can_differentiate_some(self) -> bool:
        """Whether a part of the parameters can get gradients, not all.

        FSDP and checkpointed activations (``with_cp``) cannot do that.
        """
        return not is_fsdp(self.model) and not any(
            getattr(module, 'with_cp', False)
            for module in self.inner.modules())

    def _perturb(self) -> None:
        """Moves the weights to w + eps, eps = rho * g / ||g||."""
        if self.method.keeps_first_gradient:
            self.method.keep_first_gradient(
                self.params, self._weight_of_micro_batch())
        self.method.set_ascent_direction(self)
        self.perturbed = True
        self.norm = self.method.perturbation.perturb(
            self.method.param_groups, self.group,
            self.method.radius_factor) / self.loss_scale

    def perturb_along(self, directions: list[Tensor | None]) -> Tensor:
        """Perturbs along given directions, for steps of one pass.

        Args:
            directions (list[Tensor]): A direction for each of ``params``, or
                None where it stays, as frozen ones do. They are used up.

        Returns:
            Tensor: Their norm, shape ().
        """
        with self._accumulated_set_aside():
            for p, direction in zip(self.params, directions):
                p.grad = direction if p.requires_grad else None
            return self.method.perturbation.perturb(
                self.method.param_groups, self.group,
                self.method.radius_factor)

    def _after_update(self, params: list[nn.Parameter]) -> None:
        """Lets the method repeat the passes at the new weights."""
        method = self.method
        try:
            method.after_update(self, params)
        finally:
            self.restore()
            for step in method.repeated_later:
                step._forget()
            method.repeated_later = []

    def gradient_at_new_weights(
            self, params: list[nn.Parameter],
            direction: list[Tensor]) -> list[Tensor] | None:
        """Perturbs the new weights and runs the second passes there.

        For :meth:`TwoPassOptimWrapper.after_update`.

        Args:
            params (list[nn.Parameter]): The parameters.
            direction (list[Tensor]): That of the perturbation, for each of
                them, finite.

        Returns:
            list[Tensor], optional: The gradient of each of them, over all
            micro-batches and processes, without loss scaling. None if a
            first pass cannot be repeated, about which a warning was given.
        """
        method, state = self.method, self.method.forward_state
        if not all(step._repeatable for step in method.repeated_later):
            return None
        along = dict(zip(params, direction))
        self.norm = self.perturb_along([
            along[p].clone() if p in along else None for p in self.params])
        self.perturbed = True
        with self._accumulated_set_aside():
            for step in method.repeated_later:
                step.norm = self.norm
                set_inner_count(self.base, step._count)
                state.save()
                step._second_pass([], 1.)
                # What the first passes have made of it stays; the second
                # ones find it so, and what they make of it is dropped.
                state.rewind()
            scale = method.loss_scale(self.norm)
            return [torch.zeros_like(p) if p.grad is None
                    else p.grad / scale.to(p.grad) for p in params]

    def _second_pass(self, first: list[Tensor | None],
                     weight: float) -> None:
        """The losses and the gradient at w + eps.

        Args:
            first (list[Tensor]): What the first gradient adds to this one.
            weight (float): What this one is multiplied with.
        """
        method, call = self.method, self._call
        same = self.selection.same_samples
        if method.scores_before == 'second':
            self._rewind_random_states()
            seen = method.select_by_loss(self, self._score(call))
            same = len(seen) == self.selection.size
            self.second = self._record(seen)
            call = _take(call, seen, self.selection.size)
        elif self.selection.disjoint:
            call = self._part(call, self.selection.descent)
        # What the method drew in between stays drawn.
        drawn = get_random_states(self.inner) \
            if same and self._random_states else None
        if same:
            self._rewind_random_states()
        method.samples_backpropagated += self.second.num_samples
        self._recording = self.second
        args, kwargs = call
        # Autocast around the whole step would keep weights that it cast at w.
        torch.clear_autocast_cache()
        with self._statistics_of('second'):
            with self._watched(), self.base.optim_context(self.model):
                losses = self.model(*args, **kwargs)
            loss, _ = self.inner.parse_losses(losses)
            # The factor is 1, or NaN if either pass went wrong: then so are
            # the gradients, and every process and loss scaler sees it.
            # In the norm's precision, which a half-precision loss has not.
            ok = 1 + 0 * (self.norm + loss.detach())
            loss = method.scale_loss(loss) * (weight * ok).to(loss)
            self._accumulate(first)  # DDP reduces their sum
            method.backward(loss)
        if drawn is not None:
            set_random_states(drawn)

    def _weighted_gradient(self, weight_of_pass: float
                           ) -> list[Tensor | None]:
        """What the first gradient adds to the optimizer's; none for 0."""
        if weight_of_pass == 0:
            return []
        weight = weight_of_pass * self._weight_of_micro_batch()
        return [None if p.grad is None else p.grad * weight.to(p.grad)
                for p in self.params]

    def _accumulate(self, grads: list[Tensor | None]) -> None:
        """Adds gradients to what was accumulated before."""
        for p, grad in zip(self.params, grads):
            if grad is not None:
                p.grad = grad if p.grad is None else p.grad.add_(grad)

    def _leave_second_pass_out(self) -> None:
        """The optimizer gets the first gradient."""
        set_inner_count(self.base, self.base.inner_count + 1)
        if self.method.should_update() and not is_fsdp(self.model):
            average_gradients(self.params)

    def restore(self) -> None:
        """Moves the weights back to w, bit for bit."""
        self.method.perturbation.restore()

    @torch.no_grad()
    def _refine(self) -> list[nn.Parameter]:
        """Lets the method change the gradient that the optimizer gets.

        Returns:
            list[nn.Parameter]: The parameters that have one.
        """
        params = [p for p in self.params if p.grad is not None]
        first = None
        if self.method.keeps_first_gradient and self.perturbed:
            first = self.method.take_first_gradients(params)
            if not is_fsdp(self.model):
                average(first)
        self.method.refine(self, params, first)
        return params

    def _update(self, step_kwargs: dict[str, Any],
                zero_kwargs: dict[str, Any]) -> None:
        """The base optimizer's step."""
        method = self.method
        if not method.base_skips_overflow:
            if method.step_if_finite(self.params, self.group, **step_kwargs):
                method.skipped_in_a_row = 0
            else:
                method.skip_step()
        elif not method.step_if_scaler_does(**step_kwargs):
            method.skip_step(by_scaler=True)
        elif getattr(self.base, 'loss_scaler', None) is not None:
            # A fused optimizer skips by itself; then the scale comes down.
            self._read_later.update(
                scale=self.loss_scale,
                next_scale=method.loss_scale(self.loss_scale))
        method.zero_grad(**zero_kwargs)
        method.num_updates += 1

    def _finish(self) -> None:
        """Lets the method learn from the step, and logs it."""
        # From here on the host waits for the device, as the Runner does when
        # it logs the loss.
        method, read = self.method, self._read()
        if self.repeats:
            self._check_losses(read['given'], read['returned'])
        if 'scale' in read:
            if read['next_scale'] < read['scale']:
                method.skip_step(by_scaler=True)
            else:
                method.skipped_in_a_row = 0
        if self.perturbed:
            self.norm = self.norm.new_tensor(read['norm'], device='cpu')
            if not math.isfinite(read['norm']):
                method.skipped_perturbations += 1
        if self._losses is not None:
            self._losses.check(self.first, self.second)
        method.last_losses = None
        if method.sample_weights is not None:
            method.last_losses = (
                self.selection.ascent, self.first.losses.cpu())
            method.sample_weights = None
        method.observe(self)
        method.num_steps += 1
        method.report.write(self)

    def _read(self) -> dict[str, float]:
        """What the host needs of the device, in one transfer."""
        tensors = self._read_later
        if self.perturbed:
            tensors['norm'] = self.norm
        if not tensors:
            return {}
        return dict(zip(tensors, torch.stack(
            [each.to(self.loss_scale) for each in tensors.values()]
        ).cpu().tolist()))

    def _check_losses(self, given: float, returned: float) -> None:
        """Compares the loss of ``train_step`` with that of the model, at w.

        Raises:
            RuntimeError: If they differ.
        """
        both_nan = math.isnan(given) and math.isnan(returned)
        if not both_nan and not math.isclose(
                given, returned, rel_tol=1e-3, abs_tol=1e-6):
            raise RuntimeError(
                f'train_step gave update_params a loss of {given:g}, but the '
                f'model returned {returned:g}, which is all that the second '
                f'pass of {type(self.method).__name__} sees: scale losses and '
                "add to them in the model's forward.")

    # -- what the parts share --

    def _score(self, call: Call) -> Tensor:
        """The losses of all samples, by a forward pass without gradient."""
        size = self.selection.size
        record = PassRecord(size, size, aside=True)
        self.method.samples_scored += size
        with ExitStack() as stack:
            if self.method.scores_before == 'second':
                # The first pass is in both of these already.
                stack.enter_context(self._watched())
                stack.enter_context(self.base.optim_context(self.model))
            self._aside().run(call, record)
        return record.losses

    def _aside(self) -> Aside:
        """What runs the model without a trace."""
        assert self._losses is not None
        return Aside(self.model, self.inner, self._losses,
                     self.method.forward_state, self._watch_aside,
                     self.method.undo)

    @contextmanager
    def _watch_aside(self, record: PassRecord) -> Iterator[None]:
        """The loss modules fill a record inside."""
        recording, self._recording = self._recording, record
        self._is_aside = True
        try:
            yield
        finally:
            self._recording, self._is_aside = recording, False

    def _record(self, seen: Tensor,
                weights: Tensor | None = None) -> PassRecord:
        """The record of a pass over samples, with their weights if any."""
        given = self.method.sample_weights
        if given is not None and not bool((given == 1).all()):
            weights = given[seen] * (
                1 / len(seen) if weights is None else weights)
        return PassRecord(len(seen), self.selection.size, weights,
                          self._batch, seen)

    def _watched(self) -> Any:
        """The context in which the samples' losses are recorded."""
        if self._losses is None:
            return nullcontext()
        return self._losses.watch(
            lambda: self._recording, self.method.undo)

    def _statistics_of(self, which: str) -> Any:
        """BatchNorm's statistics move in one pass only.

        That is the first, or where it sees fewer samples the second, which
        estimates them better. Passes over disjoint parts both move them, so
        that each sample counts once. Backward passes count, too: checkpointed
        activations are computed again there.
        """
        if which in self._moving_passes:
            return nullcontext()
        return frozen_statistics(self.inner, self.method.undo)

    def _part(self, call: Call, positions: Tensor) -> Call:
        """The part of the kept call that holds some samples of the batch."""
        seen = self.selection.seen
        return _take(call, torch.searchsorted(seen, positions), len(seen))

    def _rewind_random_states(self) -> None:
        if self._random_states is not None:
            set_random_states(self._random_states)

    def _weight_of_micro_batch(self) -> Tensor:
        """Weight of this micro-batch in the accumulated gradient, shape ()."""
        return self.method.scale_loss(torch.ones_like(self.loss_scale))


def _set_gradients(params: list[nn.Parameter],
                   grads: Sequence[Tensor | None]) -> None:
    for p, grad in zip(params, grads):
        p.grad = grad


def _take(call: Call, index: Tensor, size: int) -> Call:
    """The part of a call that holds the samples in ``index``."""
    args, kwargs = call
    return take(args, index, size), take(kwargs, index, size)
