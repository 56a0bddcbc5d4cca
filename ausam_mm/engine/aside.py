"""Forward passes aside: they show losses and leave no trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..losses import PassRecord, PerSampleLosses
from ..losses.judge import same_losses
from ..sampling import take
from ..undo import Undo
from .capture import Call
from .forward_state import CallCopy, ForwardState
from .isolation import (
    eval_mode,
    frozen_statistics,
    get_random_states,
    set_random_states,
    unrecorded,
    unsynchronized,
)
from .perturbation import gradients, vector_norm

Look = Callable[[torch.Tensor | None, str], PassRecord]


@dataclass
class Aside:
    """What it takes to run a model once more, inside its forward pass.

    Attributes:
        model (nn.Module): The outermost model.
        inner (nn.Module): The model without its distributed wrapper.
        losses (PerSampleLosses): What reads the losses of its samples.
        state (ForwardState): What its forward pass changes, saved.
        watch (Callable): The context in which loss modules fill a record.
        undo (Undo): Keeps what a pass changes for a while.
    """
    model: nn.Module
    inner: nn.Module
    losses: PerSampleLosses
    state: ForwardState
    watch: Callable[[PassRecord], AbstractContextManager[None]]
    undo: Undo

    def run(self, call: Call, record: PassRecord, mode: str = 'train',
            with_graph: bool = False) -> None:
        """Fills a record by a forward pass.

        Args:
            call (tuple): The arguments of the model.
            record (PassRecord): The record, with ``aside``.
            mode (str): 'train'; 'layers' for normalization and dropout as in
                evaluation, or 'eval' for the whole model. Defaults to
                'train'.
            with_graph (bool): Whether the pass builds the graph of a backward
                pass, also before the loss modules, for models that use it.
                Defaults to False.
        """
        with self._passed(call, record, mode, with_graph):
            pass

    @contextmanager
    def _passed(self, call: Call, record: PassRecord, mode: str,
                with_graph: bool) -> Iterator[Any]:
        """What the model returns in a pass, before all is as it was."""
        # Weights that were cast in an earlier pass may have moved since.
        torch.clear_autocast_cache()
        # The model may change its inputs in place.
        args, kwargs = CallCopy(call, self.state.copies_call).call
        with ExitStack() as stack:
            enter = stack.enter_context
            enter(unsynchronized(self.model, self.undo))
            enter(frozen_statistics(self.inner, self.undo))
            if mode != 'train':
                enter(eval_mode(self.inner, self.undo, mode == 'eval',
                                self.losses.without_layers))
            enter(self.undo.scope())
            self.undo.keep(self.state.reset)
            enter(self.watch(record))
            # From the first loss module on, its hook enables gradients.
            enter(torch.set_grad_enabled(with_graph))
            # What there is to warn of, the model's own pass says.
            enter(warnings.catch_warnings())
            warnings.simplefilter('ignore')
            yield self.model(*args, **kwargs)
        # Older PyTorch would give the next pass the weights that it cast
        # here, which have no gradient (pytorch/pytorch#112583).
        torch.clear_autocast_cache()

    def judge(self, call: Call, size: int, batch: Any) -> None:
        """Finds out how the total loss is made of the samples' losses.

        The batch is compared with two unequal parts of it, in another order.

        Args:
            call (tuple): The arguments of the model.
            size (int): Samples in it, at least 2.
            batch (Any): The batch of the data loader.

        Raises:
            ValueError: If it is not separable.
        """
        drawn = get_random_states(self.inner)

        def look(positions: torch.Tensor | None, mode: str) -> PassRecord:
            number, seen = size, call
            if positions is not None:
                number = len(positions)
                seen = (take(call[0], positions, size),
                        take(call[1], positions, size))
            record = PassRecord(number, number, batch=batch,
                                positions=positions, aside=True, to_judge=True)
            try:
                self.run(seen, record, mode)
            except ValueError:
                raise
            except Exception:  # it needs gradients in its forward pass
                record.terms.clear()
                self.run(seen, record, mode, with_graph=True)
            return record

        try:
            mode, full = self._quiet(look)
            parts = []
            if mode is None:
                self.losses.warn_random()
            else:
                parts = [self._part(look, positions, mode, size)
                         for positions in _parts(size)]
        finally:
            set_random_states(drawn)
        self.losses.judge(full, parts)

    def gradient_norms(self, call: Call, size: int, batch: Any,
                       params: list[nn.Parameter]) -> torch.Tensor:
        """The norm of the gradient of each sample's loss.

        See :meth:`visit_gradients`.

        Args:
            call (tuple): The arguments of the model.
            size (int): Samples in it, b.
            batch (Any): The batch of the data loader.
            params (list[nn.Parameter]): The parameters, without gradients;
                those of the last sample are left there.

        Returns:
            torch.Tensor: Shape (b, ), float64, on the CPU; -inf where a norm
            is not finite.

        Raises:
            ValueError: If the model fails on a single sample.
        """
        norms: list[torch.Tensor] = []
        self.visit_gradients(call, size, batch, params, lambda: norms.append(
            vector_norm(gradients(params)).double()))
        found = torch.stack(norms).cpu()  # one transfer from the device
        return found.where(found.isfinite(), -torch.inf)

    def visit_gradients(self, call: Call, size: int, batch: Any,
                        params: list[nn.Parameter],
                        visit: Callable[[], Any]) -> None:
        """Computes the gradient of each sample's loss, one after the other.

        A forward and a backward pass for each sample alone, in which
        normalization and dropout do what they do in evaluation, without
        autocast. A loss is what the model makes of a part of the batch that
        is this sample.

        Args:
            call (tuple): The arguments of the model.
            size (int): Samples in it, b.
            batch (Any): The batch of the data loader.
            params (list[nn.Parameter]): The parameters, without gradients;
                those of the last sample are left there.
            visit (Callable): Called when ``params`` have the gradient of a
                sample.

        Raises:
            ValueError: If the model fails on a single sample.
        """
        drawn = get_random_states(self.inner)
        try:
            for position in torch.arange(size).split(1):
                for p in params:
                    p.grad = None
                self._differentiate(
                    (take(call[0], position, size),
                     take(call[1], position, size)),
                    PassRecord(1, size, batch=batch, positions=position),
                    params)
                visit()
        finally:
            set_random_states(drawn)

    def _differentiate(self, call: Call, record: PassRecord,
                       params: list[nn.Parameter]) -> None:
        """The gradient of the loss of one sample, as that of ``params``."""
        device = next(self.inner.parameters()).device.type
        try:
            # Not in a with block: an interrupt may leave out its end.
            torch.autocast(device, enabled=False)(self._backward)(
                call, record, params)
        except Exception as error:
            raise ValueError(
                f'{type(self.inner).__name__} has no gradient of a sample '
                f"alone ({type(error).__name__}: {error}), which scores='"
                "gradient_norm' needs: leave scores out.") from error

    def _backward(self, call: Call, record: PassRecord,
                  params: list[nn.Parameter]) -> None:
        inner: Any = self.inner
        # Backward passes compute checkpointed activations once more.
        with self._passed(call, record, 'layers', with_graph=True) as output, \
                unrecorded(self.model, params, self.undo):
            inner.parse_losses(output)[0].backward()

    def _quiet(self, look: Look) -> tuple[str | None, PassRecord]:
        """A mode in which the model draws nothing, and a pass in it."""

        def is_quiet(mode: str) -> tuple[bool, PassRecord]:
            before = get_random_states(self.inner)
            record = look(None, mode)
            return get_random_states(self.inner).same_as(before), record

        quiet, full = is_quiet('layers')
        # MoCo shuffles its samples and brings them back.
        if quiet or same_losses(full, look(None, 'layers')):
            return 'layers', full
        try:
            quiet, other = is_quiet('eval')
        except Exception:  # it has other outputs in eval mode
            return None, full
        same = [term.key for term in other.terms] == [
            term.key for term in full.terms]
        return ('eval', other) if quiet and same else (None, full)

    def _part(self, look: Look, positions: torch.Tensor, mode: str,
              size: int) -> PassRecord:
        try:
            return look(positions, mode)
        except Exception as error:
            raise ValueError(
                f'{type(self.inner).__name__} fails on {len(positions)} of '
                f'{size} samples of a batch ({type(error).__name__}: {error}),'
                ' so that none can be left out: use SAM.') from error


def _parts(size: int) -> list[torch.Tensor]:
    """Positions of a half and of a quarter of a batch, in another order."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(size))
    half = max(1, size // 2)
    return [order[:half], order[half:half + max(1, size // 4)]]
