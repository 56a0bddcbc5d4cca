"""InfoBatch for whatever optimizer wrapper: losses in, weights out."""

import logging
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor
from torch.utils.data import BatchSampler

from ..engine import TwoPassOptimWrapper
from ..losses import PerSampleLosses
from ..losses.per_sample import PassRecord
from ..sampling import InfoBatchSampler, batch_size
from .exact_resume import _NumberedBatches

# Under this name the state lies in a checkpoint.
STATE = 'ausam_mm_info_batch'


@HOOKS.register_module()
class InfoBatchHook(Hook):
    """Trains with InfoBatch: Qin et al., ICLR 2024.

    :class:`InfoBatchSampler` decides what an epoch leaves out. This hook
    multiplies the losses of a batch by the weights of its samples, tells the
    sampler their losses, and keeps these in the checkpoints. It needs no
    identity of samples: batch n of an epoch holds those that the sampler has
    from place n * batch_size on.

    The losses are seen in the model's loss modules, as AUSAM's are, so they
    have to separate into the losses of the samples. A two-pass wrapper
    watches and weights them itself; for any other wrapper the hook does.

    In the last 1 - delta of the epochs, and with r=0, nothing is watched or
    weighted: that is plain training.

    Note:
        - Epochs get shorter. Settings in epochs mean what they did; those in
          iterations do not. A scheduler in iterations, also one made so by
          ``convert_to_iter_based``, is set up for full epochs and does not
          get to its end: a warning says so. The last step of
          ``accumulative_counts`` may miss, as the wrapper expects more
          batches. The hook corrects ``max_iters``, so that the time to go
          and the last checkpoint are right.
        - With Mixup or CutMix a sample's loss and weight are those of its
          place in the batch, into which another sample was mixed.
        - A checkpoint without InfoBatch's state, or with that of a dataset
          of another size, starts with no known loss.

    Example:
        >>> train_dataloader = dict(
        ...     sampler=dict(type='InfoBatchSampler', r=0.5))
        >>> custom_hooks = [dict(type='InfoBatchHook')]
    """

    priority = 'NORMAL'

    def __init__(self) -> None:
        self._loaded: dict | None = None
        self._sampler: InfoBatchSampler | None = None
        self._losses: PerSampleLosses | None = None
        self._reductions = {}
        self._positions: Tensor | None = None
        self._record: PassRecord | None = None
        self._stack = ExitStack()

    def before_train(self, runner) -> None:
        """Finds the sampler and gives it what a checkpoint holds.

        Args:
            runner (Runner): The runner.

        Raises:
            TypeError: If the loop knows no epochs.
            ValueError: If the sampler is another, its order is not that of
                the batches, or the losses do not separate.
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
            model = runner.model
            self._losses = PerSampleLosses(
                model.module if is_model_wrapper(model) else model,
                self._reductions)

    def before_train_epoch(self, runner) -> None:
        """Lets the sampler decide, and says how much it left.

        Args:
            runner (Runner): The runner.
        """
        sampler, loop = self._sampler, runner.train_loop
        sampler.set_epoch(runner.epoch)
        size = len(sampler.losses)
        runner.message_hub.update_scalar('train/infobatch/kept', sampler.kept)
        print_log(
            f'InfoBatch: epoch {runner.epoch + 1} trains {sampler.kept} of '
            f'{size} samples; {int(sampler.below.sum())} are below the mean '
            f'of {int(sampler.losses.isfinite().sum())} known losses.',
            logger='current')
        if sampler.r > 0:
            batches = loop.dataloader.batch_sampler
            # Where ExactResumeHook skips some, they are counted already.
            first = runner.iter - getattr(batches, 'skip', 0)
            loop._max_iters = first + len(batches) * (
                loop.max_epochs - runner.epoch)

    def before_train_iter(self, runner, batch_idx: int,
                          data_batch: Any = None) -> None:
        """Sets the weights of a batch and starts to watch its losses.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch in its epoch.
            data_batch (dict | tuple | list, optional): The batch.

        Raises:
            ValueError: If the batch has not as many samples as the sampler
                gave it.
        """
        self._close()  # an iteration before may have raised
        sampler = self._sampler
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
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, TwoPassOptimWrapper):
            wrapper.sample_weights = weights
            self._stack.callback(setattr, wrapper, 'sample_weights', None)
        else:
            self._record = PassRecord(
                size, size,
                weights / size if (weights != 1).any() else None)
            self._stack.enter_context(
                self._losses.watch(lambda: self._record))

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        """Tells the sampler the losses.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch in its epoch.
            data_batch (dict | tuple | list, optional): The batch.
            outputs (dict, optional): What train_step returned.
        """
        positions, record = self._positions, self._record
        self._close()
        if positions is None:
            return
        if isinstance(runner.optim_wrapper, TwoPassOptimWrapper):
            seen = runner.optim_wrapper.last_losses
            places, losses = seen or (positions[:0], torch.empty(0))
            self._sampler.record(positions[places], losses)
        else:
            self._losses.check_called(record)
            self._sampler.record(positions, record.losses)

    def after_train(self, runner) -> None:
        """Leaves nothing behind.

        Args:
            runner (Runner): The runner.
        """
        self._close()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the losses: tensors and primitives only.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): The checkpoint.
        """
        if self._sampler is not None:
            checkpoint[STATE] = dict(
                self._sampler.state_dict(), reductions=dict(self._reductions))

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keeps the losses until it is known whether training resumes.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): The checkpoint.
        """
        self._loaded = checkpoint.get(STATE)

    def _close(self) -> None:
        self._positions = self._record = None
        self._stack.close()

    def _resume(self, state: dict | None) -> None:
        size = len(self._sampler.losses)
        if state is None:
            reason = 'was written without InfoBatch'
        elif len(state['losses']) != size:
            reason = (f'has the losses of {len(state["losses"])} samples, '
                      f'and the dataset has {size}')
        else:
            self._reductions.update(state['reductions'])
            return self._sampler.load_state_dict(state)
        print_log(
            f'The checkpoint {reason}: InfoBatch starts with no known loss.',
            logger='current',
            level=logging.WARNING)

    @staticmethod
    def _warn_of_schedulers(runner) -> None:
        schedulers = runner.param_schedulers or []
        if isinstance(schedulers, dict):
            schedulers = sum(schedulers.values(), [])
        # The first epoch is a whole one, so a warm-up in it is right.
        epoch = len(runner.train_loop.dataloader)
        late = sorted({type(scheduler).__name__ for scheduler in schedulers
                       if not scheduler.by_epoch and scheduler.end > epoch})
        if late:
            print_log(
                f'{", ".join(late)} counts iterations, of which InfoBatch '
                'makes fewer than it was set up for, so that it does not get '
                'to its end: set by_epoch=True without '
                'convert_to_iter_based.',
                logger='current',
                level=logging.WARNING)


def _sampler_of(loader: Any) -> InfoBatchSampler:
    batches = loader.batch_sampler
    if isinstance(batches, _NumberedBatches):
        batches = batches.batch_sampler
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
