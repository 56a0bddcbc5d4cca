"""InfoBatch's sampler: well-learned samples are left out at random."""

import math
from collections.abc import Iterator, Sized
from typing import Any

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch import Tensor
from torch.utils.data import Sampler

from ..checks import is_number, require
from .history import gather_observations


@DATA_SAMPLERS.register_module()
class InfoBatchSampler(Sampler[int]):
    """Leaves out samples whose loss is below the mean, with probability r.

    Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data
    Pruning", ICLR 2024 (arXiv 2303.04947).

    The mean is that of all losses known when the epoch starts. Those below it
    that are kept weigh 1 / (1 - r), so that the expected sum of the losses is
    that of all samples. A sample without a known loss is never left out, so
    the first epoch is a whole one; so is every epoch that reaches into the
    last 1 - delta of the training.

    Cost: 1 - r * s times the wrapper's in the epochs that leave samples out, s
    the ratio of samples below the mean: 0.75 if it is a half.

    :class:`InfoBatchHook` provides the losses and applies the weights.

    What an epoch trains depends only on the seed, the epoch and the losses at
    its start. Which of these were below the mean is saved, so a resumed epoch
    has the order that it began with. Kept samples come in the order of
    MMEngine's DefaultSampler. The processes train equally many; if the samples
    do not divide, the first ones come twice.

    Memory: 5 bytes a sample, besides the order.

    Args:
        dataset (Sized): The dataset, with N samples.
        r (float): Probability that a sample below the mean is left out.
            Defaults to 0.5; with 0 nothing is, and nothing is weighted.
        delta (float): Ratio of the epochs that leave samples out. Defaults
            to 0.875.
        shuffle (bool): Whether the order is a random one. Defaults to True.
        seed (int, optional): Seed, the same in all processes. Defaults to
            None, for one that they agree on.

    Attributes:
        max_epochs (int, optional): Epochs of the training, which the hook
            sets; None before.
        losses (Tensor): The last loss of each sample, shape (N, ), float32;
            NaN where it is unknown.
        below (Tensor): Which were below the mean when the epoch started,
            shape (N, ), bool; none in a whole epoch.
        order (Tensor): What this process trains in the epoch: indices of
            samples, shape (n, ), int64.
        kept (int): Samples that all processes train in the epoch.

    Raises:
        ValueError: For values out of range.

    Example:
        >>> train_dataloader = dict(
        ...     sampler=dict(type='InfoBatchSampler', r=0.5))
        >>> custom_hooks = [dict(type='InfoBatchHook')]
    """

    def __init__(self,
                 dataset: Sized,
                 r: float = 0.5,
                 delta: float = 0.875,
                 shuffle: bool = True,
                 seed: int | None = None) -> None:
        require(
            is_number(r) and 0 <= r < 1,
            f'r={r!r} is no probability to leave samples out with: set '
            '0 <= r < 1, for example 0.5.')
        require(
            is_number(delta) and 0 < delta <= 1,
            f'delta={delta!r} is no ratio of the epochs to leave samples out '
            'in: set 0 < delta <= 1, for example 0.875.')
        self.r = r
        self.delta = delta
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.max_epochs: int | None = None
        self.epoch = 0
        self.losses = torch.full((len(dataset), ), math.nan)
        self.below = torch.zeros(len(dataset), dtype=torch.bool)
        self._select()

    @property
    def pruning(self) -> bool:
        """Whether samples may be left out in the epoch."""
        if self.r == 0 or self.max_epochs is None:
            return False
        # Against the rounding of, say, 0.29 * 100.
        return self.epoch < math.floor(self.delta * self.max_epochs + 1e-9)

    def set_epoch(self, epoch: int) -> None:
        """Decides what an epoch trains; for the current one it stays."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.below = self._below_mean()
        # In any case: a resumed training brings its seed.
        self._select()

    def weights(self, positions: Tensor) -> Tensor:
        """Factors of the losses.

        Args:
            positions (Tensor): Positions in ``order``, shape (k, ), int64.

        Returns:
            Tensor: 1 or 1 / (1 - r), shape (k, ), float64.
        """
        weights = torch.ones(len(positions), dtype=torch.float64)
        weights[self.below[self.order[positions]]] = 1 / (1 - self.r)
        return weights

    def record(self, positions: Tensor, losses: Tensor) -> None:
        """Takes in the losses of a step; every process has to call it.

        They reach all processes in the same step, since MMEngine saves
        checkpoints in the first process alone.

        Args:
            positions (Tensor): Positions in ``order``, shape (k, ), int64.
            losses (Tensor): The losses at these, shape (k, ). Those that are
                not finite are left out.
        """
        _, indices, losses = gather_observations(
            self.order[positions],
            losses.detach().to('cpu', torch.float64))
        losses = losses.float()
        valid = losses.isfinite()
        # NumPy's last one wins where two processes had the same sample.
        self.losses.numpy()[indices[valid].numpy()] = losses[valid].numpy()

    def state_dict(self) -> dict[str, Any]:
        """The losses and the epoch, as tensors and primitives."""
        return dict(
            epoch=self.epoch,
            losses=self.losses.clone(),
            below=self.below.clone())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is that of a dataset of another size.
        """
        if len(state['losses']) != len(self.losses):
            raise ValueError(
                f'The losses are those of {len(state["losses"])} samples, '
                f'but the dataset has {len(self.losses)}: load the state '
                'with the dataset that it was saved with.')
        self.epoch = state['epoch']
        self.losses = state['losses'].to('cpu', torch.float32).clone()
        self.below = state['below'].to('cpu', torch.bool).clone()
        self._select()

    def __iter__(self) -> Iterator[int]:
        """The indices of the samples that this process trains.

        Raises:
            RuntimeError: If no hook said how many epochs there are.
        """
        if self.r > 0 and self.max_epochs is None:
            raise RuntimeError(
                'InfoBatchSampler would leave nothing out, since nothing '
                'tells it the losses: add dict(type="InfoBatchHook") to '
                'custom_hooks.')
        return iter(self.order.tolist())

    def __len__(self) -> int:
        """How many samples this process trains in the epoch."""
        return len(self.order)

    def _below_mean(self) -> Tensor:
        known = self.losses.isfinite()
        if not self.pruning or not known.any():
            return torch.zeros_like(known)
        losses = self.losses.double()
        return losses < losses[known].mean()

    def _select(self) -> None:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        size = len(self.losses)
        order = torch.randperm(size, generator=generator) if self.shuffle \
            else torch.arange(size)
        # After the order, so that this is DefaultSampler's.
        left_out = self.below & (
            torch.rand(size, generator=generator) < self.r)
        order = order[~left_out[order]]
        self.kept = len(order)
        total = math.ceil(self.kept / self.world_size) * self.world_size
        order = order.repeat(math.ceil(total / max(self.kept, 1)))[:total]
        self.order = order[self.rank::self.world_size].clone()
