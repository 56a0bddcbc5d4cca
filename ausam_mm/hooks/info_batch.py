"""InfoBatch for any OptimWrapper: losses in, weights out."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from ..engine import TwoPassOptimWrapper
from ..engine.aside import Aside
from ..engine.capture import Call, capture
from ..engine.forward_state import ForwardState
from ..internals import set_max_iters
from ..losses import PassRecord, PerSampleLosses
from ..sampling import InfoBatchSampler, batch_size
from ..undo import Undo

# Name of the state in a checkpoint.
STATE = 'ausam_mm_info_batch'


@HOOKS.register_module()
class InfoBatchHook(Hook):
    """Trains with InfoBatch: Qin et al., ICLR 2024.

    :class:`InfoBatchSampler` decides what an epoch leaves out. This hook
    multiplies the losses of a batch by the weights of its samples, passes
    their losses to the sampler, and saves these in the checkpoints. It needs
    no keys of samples: batch n of an epoch holds the samples of the sampler's
    order from position n * batch_size on.

    The losses are read from the model's loss modules, as for AUSAM, so the
    loss has to be separable. A two-pass wrapper reads and weights them
    itself; for any other OptimWrapper the hook does.

    In the last 1 - delta of the epochs, and with r=0, nothing is read or
    weighted: training is that of the OptimWrapper alone.

    Note:
        - Epochs get shorter. Settings in epochs keep their meaning; those in
          iterations do not. A scheduler in iterations, also by
          ``convert_to_iter_based``, is set up for full epochs and does not
          reach its end: a warning says so. The last step of
          ``accumulative_counts`` may be missing, as the wrapper expects more
          batches. The hook corrects ``max_iters``, so that the remaining time
          and the last checkpoint are right.
        - With Mixup or CutMix a sample's loss and weight are those of its
          position in the batch, into which another sample was mixed.
        - After a checkpoint without InfoBatch's state, or with that of a
          dataset of another size, no loss is known.

    Example:
        >>> train_dataloader = dict(
        ...     sampler=dict(type='InfoBatchSampler', r=0.5))
        >>> custom_hooks = [dict(type='InfoBatchHook')]
    """

    priority = 'NORMAL'

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self._sampler: InfoBatchSampler | None = None
        self._losses: PerSampleLosses | None = None
        self._losses_state: dict[str, Any] = {}  # of a checkpoint
        self._positions: Tensor | None = None
        self._record: PassRecord | None = None
        self._stack = ExitStack()
        self._undo = Undo()

    @property
    def sampler(self) -> InfoBatchSampler:
        """The sampler of the training."""
        assert self._sampler is not None
        return self._sampler

    def before_train(self, runner: Runner) -> None:
        """Finds the sampler and gives it what a checkpoint holds.

        Raises:
            TypeError: If the loop has no epochs.
            ValueError: If the sampler is another, its order is not that of
                the batches, or the loss is not separable.
        """
        self._close()
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            raise TypeError(
                'InfoBatchHook decides before each epoch what it leaves out, '
                f'and a {type(loop).__name__} has none: set train_cfg='
                'dict(by_epoch=True, max_epochs=...).')
        self._sampler = sampler = _sampler_of(loop.dataloader)
        sampler.max_epochs = loop.max_epochs
        if sampler.r > 0 and runner.iter:  # not just load_from's weights
            self._resume(self._loaded)
        self._loaded = None
        if sampler.r == 0:
            return
        self._warn_of_schedulers(runner)
        if not isinstance(runner.optim_wrapper, TwoPassOptimWrapper):
            self._losses = PerSampleLosses(
                _inner(runner.model), on_parts=False)
            if self._losses_state:
                self._losses.load_state_dict(self._losses_state)

    def before_train_epoch(self, runner: Runner) -> None:
        """Lets the sampler decide, and logs how many samples it keeps."""
        sampler, loop = self.sampler, runner.train_loop
        sampler.set_epoch(runner.epoch)
        size = len(sampler.losses)
        runner.message_hub.update_scalar('train/infobatch/kept', sampler.kept)
        print_log(
            f'InfoBatch: epoch {runner.epoch + 1} trains {sampler.kept} of '
            f'{size} samples; {int(sampler.below.sum())} are below the mean '
            f'of {int(sampler.losses.isfinite().sum())} known losses.',
            logger='current')
        if sampler.r > 0:
            # The loops of exact resume skip what is counted already.
            first = runner.iter - getattr(loop, 'skip', 0)
            set_max_iters(loop, first + len(loop.dataloader) * (
                loop.max_epochs - runner.epoch))

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Any = None) -> None:
        """Sets the weights of a batch and starts to read its losses.

        Raises:
            ValueError: If the batch has not as many samples as the sampler
                gave it.
        """
        self._close()  # an iteration before may have raised
        sampler = self.sampler
        if not sampler.pruning:
            return
        most = runner.train_loop.dataloader.batch_size
        first = batch_idx * most
        size = max(0, min(most, len(sampler) - first))
        if batch_size(data_batch) != size:
            raise ValueError(
                f'Batch {batch_idx} of the epoch has '
                f'{batch_size(data_batch)} samples, but the sampler gave it '
                f'{size}, so that InfoBatch cannot tell which they are: use '
                'a collate_fn and a loop that neither add, drop nor repeat '
                'samples.')
        self._positions = torch.arange(first, first + size)
        weights = sampler.weights(self._positions)
        wrapper: Any = runner.optim_wrapper
        if self._losses is None:
            wrapper.sample_weights = weights
            self._stack.callback(setattr, wrapper, 'sample_weights', None)
        else:
            record = self._record = PassRecord(
                size, size,
                weights / size if (weights != 1).any() else None)
            self._watch(runner, self._losses, record, data_batch)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        """Passes the losses to the sampler."""
        positions, record = self._positions, self._record
        self._close()
        if positions is None:
            return
        if record is None or self._losses is None:
            wrapper: Any = runner.optim_wrapper
            seen = wrapper.last_losses
            places, losses = seen or (positions[:0], torch.empty(0))
            self.sampler.record(positions[places], losses)
        else:
            self._losses.check_called(record)
            self._losses.check(record)
            self.sampler.record(positions, record.losses)

    def after_train(self, runner: Runner) -> None:
        """Removes its hooks and weights."""
        self._close()

    def before_save_checkpoint(self, runner: Runner,
                               checkpoint: dict[str, Any]) -> None:
        """Adds the losses: tensors and primitives only."""
        if self._sampler is not None:
            checkpoint[STATE] = dict(
                self._sampler.state_dict(),
                loss_modules=self._losses.state_dict() if self._losses
                else self._losses_state)

    def after_load_checkpoint(self, runner: Runner,
                              checkpoint: dict[str, Any]) -> None:
        """Keeps the losses until it is known whether training resumes."""
        self._loaded = checkpoint.get(STATE)

    def _watch(self, runner: Runner, losses: PerSampleLosses,
               record: PassRecord, batch: Any) -> None:
        """Lets the next forward pass fill a record."""
        inner = _inner(runner.model)
        records = [record]  # the last one is that of the pass under way

        @contextmanager
        def aside(other: PassRecord) -> Iterator[None]:
            records.append(other)
            yield
            records.pop()

        def look(call: Call) -> Call:
            if len(records) == 1 and record.num_samples > 1 \
                    and losses.is_due(runner.iter):
                state = ForwardState(inner)
                state.save(everything=True)
                Aside(runner.model, inner, losses, state, aside,
                      self._undo).judge(call, record.num_samples, batch)
            return call

        enter = self._stack.enter_context
        enter(capture(runner.model, inner, lambda data: data, look,
                      lambda output: None, self._undo))
        enter(losses.watch(lambda: records[-1], self._undo))

    def _close(self) -> None:
        self._positions = self._record = None
        self._stack.close()

    def _resume(self, state: dict[str, Any] | None) -> None:
        size = len(self.sampler.losses)
        if state is None:
            reason = 'was written without InfoBatch'
        elif len(state['losses']) != size:
            reason = (f'has the losses of {len(state["losses"])} samples, '
                      f'and the dataset has {size}')
        else:
            self._losses_state = state.get('loss_modules', {})
            self.sampler.load_state_dict(state)
            return
        print_log(
            f'The checkpoint {reason}: InfoBatch starts with no known loss.',
            logger='current',
            level=logging.WARNING)

    @staticmethod
    def _warn_of_schedulers(runner: Runner) -> None:
        schedulers: Any = runner.param_schedulers or []
        if isinstance(schedulers, dict):
            schedulers = sum(schedulers.values(), [])
        # The first epoch is a whole one, so a warm-up in it is right.
        epoch = len(runner.train_loop.dataloader)
        late = sorted({type(scheduler).__name__ for scheduler in schedulers
                       if not scheduler.by_epoch and scheduler.end > epoch})
        if late:
            print_log(
                f'{", ".join(late)} counts iterations, of which InfoBatch '
                'makes fewer than it was set up for, so that it does not '
                'reach its end: set by_epoch=True without '
                'convert_to_iter_based.',
                logger='current',
                level=logging.WARNING)


def _inner(model: Any) -> nn.Module:
    inner: nn.Module = model.module if is_model_wrapper(model) else model
    return inner


def _sampler_of(loader: DataLoader[Any]) -> InfoBatchSampler:
    batches: Any = loader.batch_sampler
    # The loops of exact resume number what another one makes.
    batches = getattr(batches, 'batch_sampler', batches)
    sampler = getattr(batches, 'sampler', None)
    if not isinstance(sampler, InfoBatchSampler):
        raise ValueError(
            f'InfoBatchHook found a {type(sampler).__name__} where the '
            'samples are chosen: set train_dataloader.sampler='
            "dict(type='InfoBatchSampler').")
    if type(batches) is not BatchSampler:
        raise ValueError(
            f'A {type(batches).__name__} puts samples into batches in an '
            'order of its own, so that InfoBatch cannot tell which they are: '
            'leave train_dataloader.batch_sampler out.')
    return sampler
