"""A resumed training that ends as if it had never been interrupted."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader, IterableDataset

from ..sampling.batch_sampler import AUSAMBatchSampler, load_each

# Where the hub keeps an epoch and the iteration that it began with.
_EPOCH_START = 'ausam_mm/epoch_start'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes every iteration depend on nothing but its number.

    MMEngine restores weights, optimizer, schedulers and logs. It does not
    restore the random generators, and where a checkpoint lies within an epoch
    it starts that epoch's data anew. With this hook

    - the generators of Python, NumPy and PyTorch are seeded before each
      iteration from the run's seed, the rank and the iteration's number;
    - in the same way, but in whichever process loads them, before each batch
      is loaded, so that augmentations do not depend on the workers' past;
    - the batches of the current epoch that were trained before are skipped
      without being loaded, and the sampler takes up the seed of the
      checkpoint.

    The checkpoint gets two numbers, in MMEngine's message hub: the epoch and
    the iteration it began with. The randomness differs from that of a
    run without the hook, so it has to be there from the start. It covers
    epoch- and iteration-based loops, any number of processes and of workers.

    Note:
        With ``accumulative_counts`` the interval of the checkpoints must be a
        multiple of it, since MMEngine does not save gradients. On a GPU
        ``randomness=dict(deterministic=True)`` is needed, too.

    Example:
        >>> custom_hooks = [dict(type='ExactResumeHook')]
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner) -> None:
        """Keeps the seed that samplers were built with.

        Args:
            runner (Runner): The runner.
        """
        self._seed = runner.seed

    def before_train(self, runner) -> None:
        """Takes over how the training's data are loaded.

        Args:
            runner (Runner): The runner.

        Raises:
            TypeError: If the dataset is an iterable one, which has no order
                that could be taken up.
        """
        loop = runner.train_loop
        loader = loop.dataloader
        if isinstance(loader.dataset, IterableDataset):
            raise TypeError(
                'ExactResumeHook cannot skip what was trained of a '
                f'{type(loader.dataset).__name__}, an IterableDataset: use a '
                'dataset with an index, or leave the hook out.')
        for sampler in (loader.sampler,
                        getattr(loader.batch_sampler, 'sampler', None)):
            if getattr(sampler, 'seed', None) == self._seed:
                sampler.seed = runner.seed
            if isinstance(sampler, InfiniteSampler):
                # MMEngine 0.10.7 has workers take from it before training.
                sampler.indices = sampler._indices_of_rank()
        self.batches = _NumberedBatches(loader.batch_sampler)
        # DataLoader lets nobody set this one after it was made.
        object.__setattr__(loader, 'batch_sampler', self.batches)
        load = getattr(loader.dataset, '__getitems__', None) or partial(
            load_each, loader.dataset)
        loader.dataset.__getitems__ = partial(_load, load, runner.seed,
                                              get_rank())
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _Endless(
                loader, self.batches, runner.iter,
                # MMEngine 0.10.7 calls next() for what was trained before.
                0 if hasattr(loop, 'fast_forward_on_resume') else runner.iter)

    def before_train_epoch(self, runner) -> None:
        """Skips, in the epoch of a checkpoint, what was trained of it.

        Args:
            runner (Runner): The runner.
        """
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            return
        # Not epoch * len(dataloader): data may be added between runs.
        hub = runner.message_hub
        epoch, first = hub.runtime_info.get(_EPOCH_START, (None, None))
        if epoch != runner.epoch:
            first = runner.iter
            hub.update_info(_EPOCH_START, (runner.epoch, first))
        done = runner.iter - first
        self.batches.number, self.batches.skip = runner.iter, done
        if done:
            # MMEngine counts the batches of an epoch from 0.
            run_iter = type(loop).run_iter
            loop.run_iter = lambda idx, data: run_iter(loop, idx + done, data)

    def after_train_epoch(self, runner) -> None:
        """The next epoch is a whole one.

        Args:
            runner (Runner): The runner.
        """
        vars(runner.train_loop).pop('run_iter', None)

    def before_train_iter(self, runner, batch_idx: int,
                          data_batch: Any = None) -> None:
        """Seeds what the iteration draws.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch in its epoch.
            data_batch (dict | tuple | list, optional): The batch.
        """
        _seed_everything(runner.seed, get_rank(), runner.iter, 0)


def _seed_everything(*entropy: int) -> None:
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.manual_seed(int(seeds[2]))


class _Batch(list):
    """The indices of a batch with its number in the training."""

    number = 0


class _NumberedBatches:
    """A batch sampler that numbers its batches and can skip the first ones.

    Args:
        batch_sampler (BatchSampler): The batch sampler underneath.

    Attributes:
        number (int): Number of the next batch.
        skip (int): How many are left out before it.
    """

    def __init__(self, batch_sampler: Any) -> None:
        self.batch_sampler = batch_sampler
        self.number = 0
        self.skip = 0

    def __iter__(self) -> Iterator[_Batch]:
        if isinstance(self.batch_sampler, AUSAMBatchSampler):
            # It must not draw from what is left out.
            self.batch_sampler.skip += self.skip
            self.skip = 0
        for indices in self.batch_sampler:
            if self.skip:
                self.skip -= 1
                continue
            batch = _Batch(indices)
            batch.number = self.number
            self.number += 1
            yield batch

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)


def _load(load: Callable[[_Batch], list], seed: int, rank: int,
          batch: _Batch) -> list:
    """The samples of a batch, with the randomness of its number."""
    _seed_everything(seed, rank, batch.number, 1)
    return load(batch)


class _Endless:
    """The batches of an iteration-based training from a given one on.

    Args:
        loader (DataLoader): Loads a pass over the data.
        batches (_NumberedBatches): Its batch sampler.
        first (int): Number of the first batch to load.
        free (int): How many first calls of ``next`` load nothing.
    """

    def __init__(self, loader: DataLoader, batches: _NumberedBatches,
                 first: int, free: int) -> None:
        self._iterator = self._iterate(loader, batches, first)
        self._free = free

    def __iter__(self) -> '_Endless':
        return self

    def __next__(self) -> Any:
        if self._free:
            self._free -= 1
            return None
        return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        """Skips nothing, since it starts at the right batch already."""

    @staticmethod
    def _iterate(loader: DataLoader, batches: _NumberedBatches,
                 first: int) -> Iterator[Any]:
        batches.number = batches.skip = first
        for epoch in count():
            for sampler in (loader.sampler, batches.sampler):
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(epoch)
            yield from loader
