"""Per-sample losses of a model that knows only its batch loss.

Hooks on the model's loss modules see the arguments and the output of each
call, and a rule turns them into one loss a sample. What the total loss makes
of an output is d total / d output, which the backward pass tells. The loss of
a sample is the weighted sum over the calls: the model's total loss on that
sample alone. :mod:`.judge` finds out whether this is so, on a batch and on
parts of it, and each pass is checked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..internals import not_compiled, remove_hook, remove_pre_hook
from ..undo import Undo
from .alone import ModuleState, one_by_one
from .detection import LOSS_METHOD, HeadLosses
from .judge import DIVIDES, OUTSIDE, fits, judge, outside
from .labels import Path, counts_at, find_labels
from .record import (
    COUNT,
    MEAN,
    NONE,
    SUM,
    PassRecord,
    Reduction,
    Term,
    mean_count,
)
from .rules import find_rule, loss_modules, original, refusal

# Steps between two looks at whether the losses are still what they were.
INTERVAL = 500


class PerSampleLosses:
    """Watches the loss modules of a model during its passes.

    It also keeps the scale of the loss: what is summed over the batch is
    multiplied by b/k on k of b samples, so that the gradient of a subset is
    as long as that of the batch.

    Args:
        model (nn.Module): The model, without a distributed wrapper.
        on_parts (bool): Whether passes see parts of batches. Defaults to
            True.

    Attributes:
        modules (dict[str, nn.Module]): The loss modules, by name.
        calls (dict[str, Reduction]): What is known of each call, by key.
        verified (bool): Whether losses that differ have shown it.
        heads (dict[str, HeadLosses]): Heads of detectors, by name, which
            divide by numbers of the full batch's boxes.

    Raises:
        ValueError: If the model has no loss modules, or one that is never
            separable.
    """

    def __init__(self, model: nn.Module, on_parts: bool = True) -> None:
        for name, module in model.named_modules():
            reason = find_rule(module)[1]
            if reason is not None:
                raise refusal(name, module, reason)
        self.model = model
        self.on_parts = on_parts
        self.modules = loss_modules(model)
        self.calls: dict[str, Reduction] = {}
        self.verified = False
        self._seen: set[str] = set()  # keys of all calls
        self._has_outside = False
        self._to_confirm = False
        self._said_ignored = False
        self.heads: dict[str, HeadLosses] = {}
        for name, module in self.modules.items():
            rule = find_rule(original(module))[0]
            if rule is not None and rule.numbers_from is not None:
                try:
                    self.heads[name] = HeadLosses(
                        module, model, rule.numbers_from)
                except ValueError as error:
                    raise refusal(name, module, str(error)) from error
        if not self.modules:
            raise ValueError(
                f'{type(model).__name__} has no loss modules, so that the '
                'loss of each sample cannot be seen: compute its loss in an '
                'nn.Module whose class name ends with "Loss", or use SAM, '
                'which needs none.')

    @property
    def without_layers(self) -> list[nn.Module]:
        """The loss modules, and of detectors' heads those inside."""
        return [module for name, module in self.modules.items()
                if name not in self.heads] + [
            module for name in self.heads for module in loss_modules(
                nn.ModuleList(self.modules[name].children())).values()]

    @property
    def reductions(self) -> dict[str, str]:
        """What the total loss makes of each call, 'mean' or 'sum'."""
        return {key: call.in_total for key, call in self.calls.items()}

    def state_dict(self) -> dict[str, Any]:
        """What is known: primitives only."""
        return dict(
            calls={key: asdict(call) for key, call in self.calls.items()},
            verified=self.verified)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state, as far as the model has its modules."""
        self.calls = {
            key: Reduction(**call) for key, call in state['calls'].items()
            if key.split('#')[0] in self.modules}
        self.verified = state['verified'] and \
            len(self.calls) == len(state['calls'])
        self._to_confirm = True

    # -- what is known --

    def is_due(self, step: int) -> bool:
        """Whether a step should be preceded by a look.

        It is until the samples' losses differ by enough, ever more rarely,
        and then in intervals.

        Args:
            step (int): The number of the step, from 0.
        """
        return not self.calls or self._to_confirm or step % INTERVAL == 0 or (
            not self.verified and step & (step - 1) == 0)

    def judge(self, full: PassRecord, parts: list[PassRecord]) -> None:
        """Finds out, or checks, how the total loss is made of the samples'.

        Args:
            full (PassRecord): A pass aside over a batch.
            parts (list[PassRecord]): The same over parts of it; none where
                the model is random in every mode.

        Raises:
            ValueError: If it is not separable, or no longer what it was.
        """
        if not full.terms:
            return  # the pass that follows says so
        verdict = judge(full, parts, self._evaluate)
        for term in full.terms:
            call = verdict.calls[term.key]
            known = None if self._to_confirm else self.calls.get(term.key)
            if call.of_module == COUNT:
                call.labels = known.labels if known else \
                    self._places_of_labels(term, full.batch)
                if self.on_parts and call.labels is None:
                    self._require_equal_counts(term)
            if known is None:
                self._say(term, call)
            elif self.verified and verdict.spread and (
                    known.of_module, known.in_total) != (
                        call.of_module, call.in_total):
                raise refusal(
                    term.name, term.module, 'its losses are reduced as '
                    f'{call.in_total} now, and were as {known.in_total} '
                    'before')
        self.calls.update(verdict.calls)
        self._has_outside = verdict.outside
        self._to_confirm = False
        self.verified = self._seen <= self.calls.keys() and (
            self.verified or verdict.spread)

    @not_compiled
    def check(self, *records: PassRecord) -> None:
        """Checks what is known against passes, after their backward passes.

        Each module's value must be what its reduction makes of the samples'
        losses, and the total nothing but these.

        Args:
            *records (PassRecord): Those of the passes; empty ones are left
                out.

        Raises:
            ValueError: If it is not.
        """
        records = tuple(record for record in records if record.terms)
        if not records:
            return
        sums = [record.sums() for record in records]
        # One transfer from the device.
        numbers = torch.cat(sums).cpu().split([len(each) for each in sums])
        for record, of_pass in zip(records, numbers):
            self._check(record, of_pass.tolist())

    def _check(self, record: PassRecord, sums: list[float]) -> None:
        for i, (term, _) in enumerate(record.weighted_terms()):
            self._check_counts(term, record)
            of_term = sums[5 * i + 2:5 * i + 6]
            if term.reduction is not None and not fits(
                    term, term.reduction.of_module, of_term):
                raise refusal(term.name, term.module,
                              DIVIDES.format(value=of_term[0]))
        if self.calls and not self._has_outside:
            rest, error = outside(record, sums)
            if abs(rest) > error:
                raise ValueError(OUTSIDE.format(
                    rest=rest, names=record.names))

    def check_called(self, record: PassRecord) -> None:
        """Raises if no loss module was called during a pass.

        Raises:
            ValueError: If it holds no losses.
        """
        if not record.terms:
            raise ValueError(
                f'None of the loss modules {sorted(self.modules)} was called '
                'during the forward pass, so that the loss of each sample '
                'cannot be seen: call the module itself instead of its '
                'methods, or use SAM, which needs no per-sample losses.')

    # -- a pass --

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
                if name in self.heads:
                    undo.replace(module, LOSS_METHOD,
                                 self._method_of_head(name, record))
                    continue
                before, after = self._hooks_of_loss(name, record)
                undo.keep(remove_pre_hook, module, before)
                module.register_forward_pre_hook(before)
                undo.keep(remove_hook, module, after)
                module.register_forward_hook(after, with_kwargs=True)
            hook = self._hook_of_model(record)
            undo.keep(remove_hook, self.model, hook)
            self.model.register_forward_hook(hook)
            yield

    def _hooks_of_loss(self, name: str, record: Callable[[], PassRecord]
                       ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What runs before and after a loss module."""
        states: list[ModuleState] = []

        @not_compiled
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            states[:] = [ModuleState(original(module))]

        @not_compiled
        def after(module: nn.Module, args: tuple[Any, ...],
                  kwargs: dict[str, Any], output: Any) -> Any:
            now, state = record(), states.pop()
            if not isinstance(output, Tensor):
                raise refusal(name, module, 'it returns a '
                              f'{type(output).__name__} instead of a tensor')
            return self._recorded(now.next_key(name), module,
                                  (args, kwargs), output, state, now)

        return before, after

    def _method_of_head(self, name: str, record: Callable[[], PassRecord]
                        ) -> Callable[..., dict[str, Any]]:
        """What takes the place of the ``loss_by_feat`` of a detector's head.

        Each of the losses that it returns is recorded as one call.
        """
        module: Any = self.modules[name]
        method = module.loss_by_feat

        @not_compiled
        def loss_by_feat(*args: Any, **kwargs: Any) -> dict[str, Any]:
            now, state = record(), ModuleState(module)
            try:
                call = self.heads[name].call(method, args, kwargs, now)
            except ValueError as error:
                raise refusal(name, module, str(error)) from error
            output = call.output
            for loss in call.names:
                returned = self._recorded(
                    now.next_key(f'{name}#{loss}'), module,
                    ((call, loss), {}), output[loss], state, now)
                if returned is not None:
                    output[loss] = returned
            return output

        return loss_by_feat

    def _recorded(self, key: str, module: nn.Module,
                  call: tuple[tuple[Any, ...], dict[str, Any]],
                  output: Tensor, state: ModuleState,
                  now: PassRecord) -> Tensor | None:
        """Adds a call to a record; what the model goes on with, if new."""
        name = key.split('#')[0]
        moved = state.moved_buffer()
        if moved is not None:
            raise refusal(name, module, f'it changes its buffer `{moved}` '
                          'at every call')
        term = Term(key, module, call, now.num_samples,
                    output.detach().clone(), state, self.calls.get(key))
        now.terms.append(term)
        if now.aside:
            # From here to the total loss there is a graph.
            torch.set_grad_enabled(True)
            term.returned = output.detach().requires_grad_()
            if not now.to_judge:
                self._evaluate(term)
            return term.returned.clone()  # to be changed in place
        if not output.requires_grad:  # a metric
            return None
        self._seen.add(key)
        if term.reduction is None:  # on a full batch it does no harm
            self.verified = False
            if now.num_samples < now.batch_size:
                raise refusal(name, module, 'the model does not call it '
                              'in every step, and calls it first on a '
                              'part of a batch')
        # A clone may be changed in place.
        returned = self._returned(term, now, output).clone()
        term.returned = returned.detach().clone()
        returned.register_hook(partial(setattr, term, 'weight'))
        return returned

    def _hook_of_model(self, record: Callable[[], PassRecord]
                       ) -> Callable[..., Any]:
        """What sees the losses that the model returns."""

        @not_compiled
        def after(module: Any, args: tuple[Any, ...], output: Any) -> Any:
            now = record()
            if not now.terms:
                return None
            total, _ = module.parse_losses(output)
            now.total = total.detach()
            if now.aside:
                leaves = [term.returned for term in now.terms]
                if total.requires_grad:
                    for term, weight in zip(now.terms, torch.autograd.grad(
                            total, leaves, allow_unused=True)):
                        term.weight = weight
                for term, leaf in zip(now.terms, leaves):
                    term.returned = leaf.detach()
                # Wrappers of the model must not wait for a backward pass.
                return {name: _detached(value)
                        for name, value in output.items()}
            # The factor of loss scaling and accumulation: the gradient of
            # the first loss, of which the total has the mean.
            first = next((value for name, values in output.items()
                          if 'loss' in name for value in (
                              values if isinstance(values, list)
                              else [values]) if value.requires_grad), None)
            if first is not None:
                first.register_hook(now.set_factor)
            return None

        return after

    def _returned(self, term: Term, record: PassRecord,
                  output: Tensor) -> Tensor:
        """What the model goes on with in place of a module's output.

        It makes the total an estimate of the full batch's.
        """
        reduction = term.reduction or Reduction(term.of_module)
        is_part = record.num_samples < record.batch_size
        weights = record.weights
        graph = self._evaluate(term, differentiable=weights is not None)
        if is_part and reduction.of_module == COUNT:
            self._expect_counts(term, record)
        if weights is None:
            if not is_part:
                return output
            if reduction.in_total == SUM:
                return output * (record.batch_size / record.num_samples)
            if term.expected is None or term.mean_count is None:
                return output
            if term.expected.any():
                return output * float(
                    mean_count(term.expected) / term.mean_count)
            # All are ignored: PyTorch's own losses are 0/0.
            weights = torch.full((record.num_samples, ),
                                 1 / record.num_samples)
            graph = self._evaluate(term, differentiable=True)

        # How often a sample counts in the total, relative to its own loss.
        number = record.num_samples if reduction.in_total == MEAN \
            else record.batch_size
        weights = number * weights.to(output)
        if reduction.of_module == NONE:
            return output * weights.view(-1, *[1] * (output.ndim - 1))
        assert graph is not None
        if reduction.of_module != SUM:
            weights = weights / record.num_samples
        if reduction.of_module == COUNT:
            assert term.mean_count is not None
            weights = weights / term.mean_count.to(weights)
        return (graph * weights).sum().reshape_as(output)

    # -- a call of a loss module --

    def _evaluate(self, term: Term, batched: list[bool] | None = None,
                  differentiable: bool = False) -> Tensor | None:
        """The samples' losses of a call, shape (k, ), also as ``losses``.

        Args:
            term (Term): The call.
            batched (list[bool], optional): Which of its arguments,
                flattened, hold a slice for each sample. Defaults to None, for
                what is known.
            differentiable (bool): Whether they are. Defaults to False.

        Returns:
            Tensor, optional: None if the module returned them itself.
        """
        if batched is None and term.reduction is not None:
            batched = term.reduction.batched
        if term.of_module == NONE:
            return None
        module, (args, kwargs) = original(term.module), term.call
        rule = find_rule(module)[0]
        after = ModuleState(module)
        term.state.restore()
        try:
            with torch.set_grad_enabled(differentiable):
                losses = term.in_its_precision(
                    rule or partial(one_by_one, batched=batched))(
                        module, args, kwargs, term.num_samples)
                if rule is not None:
                    term.counts = rule.counts_of(
                        module, rule.labels_of(module, args, kwargs))
        except ValueError as error:
            raise refusal(term.name, module, str(error)) from error
        except Exception as error:
            what = 'on a sample alone it fails' if rule is None else \
                f'its rule `{rule.losses.__qualname__}` fails'
            raise refusal(term.name, module, f'{what} with '
                          f'{type(error).__name__}: {error}') from error
        finally:
            after.restore()
        if losses.shape != (term.num_samples, ):
            raise refusal(
                term.name, module, f'it computes {losses.numel()} losses for '
                f'{term.num_samples} samples: it compares them with each '
                'other, or has several for a sample')
        term.losses = losses.detach()
        if term.counts is not None and term.mean_count is None:
            term.mean_count = mean_count(term.counts)
        return losses

    @staticmethod
    def _places_of_labels(
            term: Term, batch: Any) -> dict[str, Path | float] | None:
        """Where in the batch of the data loader the labels of a call are."""
        module = original(term.module)
        rule = find_rule(module)[0]
        assert rule is not None
        labels = {name: value for name, value in
                  rule.labels_of(module, *term.call).items()
                  if value is not None}
        found = {name: find_labels(batch, value) if isinstance(value, Tensor)
                 else value for name, value in labels.items()}
        places = {name: place for name, place in found.items()
                  if place is not None}
        return places if len(places) == len(labels) else None

    @staticmethod
    def _expect_counts(term: Term, record: PassRecord) -> None:
        """What a module would divide by on the full batch, from its labels."""
        assert term.reduction is not None
        counts = None
        if term.reduction.labels is not None:
            counts = counts_at(record.batch, term.reduction.labels,
                               original(term.module), record.batch_size)
        if counts is not None:
            term.mean_count = mean_count(counts)
            term.expected = counts if record.positions is None \
                else counts[record.positions]

    def _check_counts(self, term: Term, record: PassRecord) -> None:
        """Checks that the labels of a call are those in the batch."""
        counts = term.counts
        if counts is None:
            return
        ignored = int((counts == 0).sum())
        if ignored and not self._said_ignored:
            self._said_ignored = True
            print_log(
                f'{ignored} samples of a batch have labels that '
                f'`{term.name}` ignores: their loss is 0.', logger='current')
        if record.num_samples == record.batch_size:
            return
        if term.expected is None:
            self._require_equal_counts(term)
        if term.expected is not None and not torch.equal(
                term.expected.to(counts), counts):
            raise refusal(
                term.name, term.module, 'the labels that it gets are not '
                'those in the batch of the data loader')

    @staticmethod
    def _require_equal_counts(term: Term) -> None:
        """Raises where a part of a batch does not tell what divides all."""
        counts = term.counts
        if counts is not None and bool((counts != counts[0]).any()):
            raise refusal(
                term.name, term.module, 'it divides by a number of the full '
                'batch, and the labels of the samples that are left out are '
                'not in what the data loader returned')

    @staticmethod
    def _say(term: Term, call: Reduction) -> None:
        """Logs what a user may not expect."""
        if call.in_total == SUM:
            print_log(
                f'The loss module `{term.name}` '
                f'({type(term.module).__name__}) sums over the batch: on k of '
                'b samples it is multiplied by b/k.', logger='current')

    def warn_random(self) -> None:
        """Warns, once, that views of a batch cannot be compared."""
        if not self.calls:
            print_log(
                f'{type(self.model).__name__} draws random numbers in its '
                'forward pass, also in eval mode, so that it cannot be seen '
                'whether it reorders samples or compares them with each '
                'other before its loss modules: if it does, use SAM.',
                logger='current', level=logging.WARNING)


def _detached(value: Any) -> Any:
    if isinstance(value, list):
        return [part.detach() for part in value]
    return value.detach() if isinstance(value, Tensor) else value
