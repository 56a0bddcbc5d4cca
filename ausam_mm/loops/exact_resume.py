"""Training loops whose resumed runs end as if never interrupted."""

import inspect
import random
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmengine.registry import LOOPS
from mmengine.runner import (
    BaseLoop,
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
)
from torch.utils.data import DataLoader, IterableDataset

from ..sampling import AUSAMBatchSampler

# Where the message hub keeps an epoch and the iteration that it began with.
_EPOCH_START = 'ausam_mm/epoch_start'
# What the generators are seeded for.
_STEP, _LOADING, _ORDER = range(3)

if TYPE_CHECKING:  # which of MMEngine's it goes with, its heirs say
    _Loop = EpochBasedTrainLoop
else:
    _Loop = BaseLoop


class _ExactResumeLoop(_Loop):
    """What both loops share.

    Attributes:
        skip (int): How many of the next batches are left out, since they
            were trained before. Defaults to 0.
        data_pass (int): Number of the current pass over the data.
    """

    def __init__(self, runner: Runner,
                 dataloader: DataLoader[Any] | dict[str, Any],
                 **options: Any) -> None:
        self.skip = 0
        self.data_pass = 0
        self._built_with = runner.seed
        self._owns_sampler = isinstance(dataloader, dict)
        super().__init__(runner, dataloader, **options)

    @property
    def dataloader(self) -> '_Loader':
        """The loader, also where a hook has replaced it in the training."""
        return self._dataloader

    @dataloader.setter
    def dataloader(self, loader: DataLoader[Any]) -> None:
        self._dataloader = _Loader(loader, self)

    def run(self) -> Any:
        """Trains; samplers of a config take up the seed of the checkpoint."""
        for sampler in self.dataloader.samplers:
            if self._owns_sampler and getattr(
                    sampler, 'seed', None) == self._built_with:
                sampler.seed = self.runner.seed
        return super().run()

    def run_iter(self, *batch: Any) -> None:
        """Trains a batch, with the randomness of its number."""
        self.seed(self.iter, _STEP)
        super().run_iter(*batch)

    def seed(self, *entropy: int) -> None:
        _seed_everything(self.runner.seed, get_rank(), *entropy)


@LOOPS.register_module()
class ExactResumeEpochBasedTrainLoop(_ExactResumeLoop, EpochBasedTrainLoop):
    """MMEngine's loop of epochs, with a resume that is exact bit for bit.

    MMEngine restores weights, optimizer, schedulers and logs. It does not
    restore the random generators, and where a checkpoint lies within an epoch
    it starts that epoch's data anew. In this loop

    - the generators of Python, NumPy and PyTorch are seeded before each
      iteration from the run's seed, the rank and the iteration's number;
    - in the same way, in whichever process loads, they are seeded before each
      batch is loaded, so that augmentations do not depend on the past of the
      workers;
    - batches of the current epoch that were trained before are skipped
      without being loaded, and the sampler takes up the checkpoint's seed.

    The checkpoint gets two numbers in MMEngine's message hub: the epoch and
    the iteration it began with. The randomness differs from that of MMEngine's
    own loop, so the run that is resumed needs this one, too. Any number of
    processes and of workers will do.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): The loader or its config. A loader is
            not changed: the loop makes its own from the same dataset and
            sampler. A sampler that comes with it keeps its own seed.
        **options: Those of MMEngine's EpochBasedTrainLoop.

    Raises:
        TypeError: If the batches have no order that could be taken up.

    Note:
        With ``accumulative_counts`` the interval of the checkpoints must be a
        multiple of it, since MMEngine does not save gradients. On a GPU
        ``randomness=dict(deterministic=True)`` is needed, too.

    Example:
        >>> train_cfg = dict(
        ...     type='ExactResumeEpochBasedTrainLoop', max_epochs=200)
    """

    def run_epoch(self) -> None:
        """Trains what is left of an epoch."""
        # Not epoch * len(dataloader): data may be added between runs.
        hub = self.runner.message_hub
        epoch, first = hub.runtime_info.get(_EPOCH_START, (None, None))
        if epoch != self.epoch:
            first = self.iter
            hub.update_info(_EPOCH_START, (self.epoch, first))
        self.skip = self.iter - first
        self.data_pass = self.epoch
        super().run_epoch()

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Trains a batch."""
        _, first = self.runner.message_hub.get_info(_EPOCH_START)
        super().run_iter(self.iter - first, data_batch)


@LOOPS.register_module()
class ExactResumeIterBasedTrainLoop(_ExactResumeLoop, IterBasedTrainLoop):
    """MMEngine's loop of iterations, with a resume that is exact bit for bit.

    See :class:`ExactResumeEpochBasedTrainLoop` for what it does and needs.

    Example:
        >>> train_cfg = dict(
        ...     type='ExactResumeIterBasedTrainLoop', max_iters=90000)
    """

    def run(self) -> Any:
        """Trains from the iteration of the checkpoint on."""
        self.skip = self.iter
        batches: Any = _EndlessBatches(self)
        self.dataloader_iterator = batches
        return super().run()


class _EndlessBatches:
    """Pass after pass over a loop's data; what was trained comes as None."""

    def __init__(self, loop: ExactResumeIterBasedTrainLoop) -> None:
        self._iterator = self._iterate(loop)
        # onedl-mmengine 0.10.12 calls skip_iter for what was trained before,
        # mmengine 0.10.7 calls next.
        self._nothing = 0 if hasattr(
            loop, 'fast_forward_on_resume') else loop.iter

    def __iter__(self) -> '_EndlessBatches':
        return self

    def __next__(self) -> Any:
        if self._nothing:
            self._nothing -= 1
            return None
        return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        """Does nothing, since the loop's ``skip`` leaves them out."""

    @staticmethod
    def _iterate(loop: ExactResumeIterBasedTrainLoop) -> Iterator[Any]:
        for loop.data_pass in count():
            loader = loop.dataloader
            for sampler in loader.samplers:
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(loop.data_pass)
            yield from loader


class _Loader(DataLoader[Any]):
    """A data loader of the loop's own, over the parts of a given one."""

    def __init__(self, loader: DataLoader[Any],
                 loop: _ExactResumeLoop) -> None:
        name = type(loop).__name__
        if type(loader) is not DataLoader:
            raise TypeError(
                f'{name} makes its data loader from the parts of a '
                f'torch.utils.data.DataLoader, not of a '
                f'{type(loader).__name__}: give train_dataloader as a config.')
        if isinstance(loader.dataset, IterableDataset):
            raise TypeError(
                f'{name} cannot skip what was trained of a '
                f'{type(loader.dataset).__name__}, an IterableDataset: use a '
                "dataset with an index, or MMEngine's own loop.")
        if loader.batch_sampler is None:
            raise TypeError(
                f'{name} counts batches, and with batch_size=None the loader '
                'makes none: set train_dataloader.batch_size.')
        self._loop = loop
        names = inspect.signature(DataLoader.__init__).parameters
        options = {option: getattr(loader, option) for option in names
                   if hasattr(loader, option)}
        for option in (('batch_size', 'sampler', 'drop_last')
                       if loader.batch_size is None else ('batch_sampler', )):
            del options[option]
        super().__init__(**options)

    @property
    def samplers(self) -> tuple[Any, Any]:
        """The one of the loader and the one of its batch sampler, if any."""
        return self.sampler, getattr(self.batch_sampler, 'sampler', None)

    @property  # torch assigns it in __init__
    def batch_sampler(self) -> '_NumberedBatches':
        return self._batches

    @batch_sampler.setter
    def batch_sampler(self, batch_sampler: Any) -> None:
        self._batches = _NumberedBatches(batch_sampler, self._loop)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator starts no worker before its first batch is wanted;
        # mmengine 0.10.7 calls iter() before a checkpoint is loaded.
        yield from super().__iter__()


class _NumberedBatches:
    """Skips what was trained, and numbers the batches of indices.

    Args:
        batch_sampler (BatchSampler): Where they come from.
        loop (_ExactResumeLoop): Knows how many to skip.
    """

    def __init__(self, batch_sampler: Any, loop: _ExactResumeLoop) -> None:
        self.batch_sampler = batch_sampler
        self._loop = loop

    def __iter__(self) -> Iterator['_Batch']:
        loop = self._loop
        if isinstance(self.batch_sampler, AUSAMBatchSampler):
            # It must not sample from what is left out.
            self.batch_sampler.skip += loop.skip
            loop.skip = 0
        # For samplers that shuffle by PyTorch's global generator.
        loop.seed(loop.data_pass, _ORDER)
        number = loop.iter
        for indices in self.batch_sampler:
            if loop.skip:
                loop.skip -= 1
                continue
            yield _Batch(indices, loop.runner.seed, get_rank(), number)
            number += 1

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name == 'batch_sampler':  # not set yet, where it is copied
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)


class _Batch(list[Any]):
    """Indices of a batch; who takes the first one seeds the generators.

    That is the data loader, in the process that loads and right before it
    loads: no dataset has to know of the seed.

    Args:
        indices (list): The indices.
        *entropy (int): Seed of the run, rank and number of the batch.
    """

    def __init__(self, indices: Any, *entropy: int) -> None:
        super().__init__(indices)
        self._entropy = entropy

    def __iter__(self) -> Iterator[Any]:
        self._seed()
        return super().__iter__()

    def __getitem__(self, place: Any) -> Any:
        self._seed()
        return super().__getitem__(place)

    def __reduce__(self) -> tuple[Any, ...]:
        # To be sent to a worker must not seed the sender.
        return _Batch, (list(super().__iter__()), *self._entropy)

    def _seed(self) -> None:
        entropy, self._entropy = self._entropy, ()
        if entropy:
            _seed_everything(*entropy, _LOADING)


def _seed_everything(*entropy: int) -> None:
    seeds = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    seed = int(seeds[2])
    if get_device() == 'cpu':
        # torch.manual_seed formats a stack trace for each kind of device that
        # is not in use: most of its time, twice in each step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
