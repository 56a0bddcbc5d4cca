"""The ADLP table: a score of each training sample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmengine.dist import get_comm_device, get_world_size
from numpy.typing import NDArray
from torch import Tensor

from ..checks import is_number, require

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Rows = NDArray[np.int32]

_MIN_CAPACITY = 1024
_SLOTS_PER_ROW = 2
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio spreads any keys


class SampleHistory:
    """Running means of a quantity of each training sample, found by key.

    The table of Deng et al., AAAI 2025: for each sample the average, over the
    times it was used, of the difference in its loss before and after the
    perturbation (ADLP). Rows are in the order in which the keys arrived, and a
    hash table finds them. So a step costs about the same at any size. A sample
    takes 32 to 80 bytes in memory, and 24 in a checkpoint.

    With ``decay`` the n-th observation x_n of a sample makes older ones count
    less: its mean is sum_j decay^(n - j) x_j / sum_j decay^(n - j), the plain
    one for 1. What one call of :meth:`update` or :meth:`merge` holds of a
    sample is of one age: m observations count as m times their plain mean, so
    that their order does not matter.

    All data live on the CPU. :meth:`state_dict` holds tensors alone, so that a
    checkpoint loads with ``weights_only=True``.

    Args:
        max_samples (int, optional): The most samples that are kept. The one
            whose first observation is the oldest goes first, and if it comes
            again it is a new one. Defaults to None, for all.
        decay (float): What the weight of an observation is multiplied with at
            each later one of the same sample, in (0, 1]. It is not in the
            state: a table that is loaded goes on from its means and counts.
            Defaults to 1., for the plain mean.

    Raises:
        ValueError: For a number of samples that is no positive integer, or a
            decay out of range.

    Example:
        >>> import torch
        >>> from ausam_mm import SampleHistory
        >>> history = SampleHistory()
        >>> history.update(torch.tensor([7, 9]), torch.tensor([0.5, 0.1]))
        >>> history.update(torch.tensor([7]), torch.tensor([1.5]))
        >>> history.means(torch.tensor([7, 8, 9]))
        tensor([1.0000,    nan, 0.1000], dtype=torch.float64)
    """

    def __init__(self, max_samples: int | None = None,
                 decay: float = 1.) -> None:
        require(
            max_samples is None
            or isinstance(max_samples, int) and max_samples > 0,
            f'max_samples={max_samples!r} is no number of samples: set at '
            'least 1, or None to keep all.')
        require(
            is_number(decay) and 0 < decay <= 1,
            f'decay={decay!r} is no factor in (0, 1]: set 1 for the plain '
            'mean, or for example 0.9.')
        self.max_samples = max_samples
        self.decay = decay
        self._clear()

    def __len__(self) -> int:
        """The number of samples that are kept."""
        return self._end - self._first

    def means(self, keys: Tensor) -> Tensor:
        """The running mean of each key.

        Args:
            keys (Tensor): Keys, shape (n, ), int64.

        Returns:
            Tensor: Means, shape (n, ), float64; NaN where a key is unknown,
            -inf where it has failed (see :meth:`update`).
        """
        rows = self._find(keys.numpy())
        means = self._means[rows]
        if self._some_failed:
            means[self._counts[rows] < 0] = -np.inf
        return torch.from_numpy(means)

    def counts(self, keys: Tensor) -> Tensor:
        """How often each key was used.

        Args:
            keys (Tensor): Keys, shape (n, ), int64.

        Returns:
            Tensor: Counts, shape (n, ), int64; 0 where a key is unknown.
        """
        return torch.from_numpy(
            _observations(self._counts[self._find(keys.numpy())]))

    def update(self, keys: Tensor, values: Tensor) -> None:
        """Adds an observation of each key to its mean.

        Args:
            keys (Tensor): Keys, shape (n, ), int64; a key may come twice.
            values (Tensor): Observations, shape (n, ). With -inf a key has
                failed until its next observation. NaN and inf are left out.
        """
        self._observe(keys.numpy(), values.double().numpy(),
                      np.ones(len(keys), np.int64))

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Replaces all earlier observations of each key.

        Args:
            keys (Tensor): Keys, shape (n, ), int64; a key may come twice.
            values (Tensor): Observations, shape (n, ), as for :meth:`update`.
        """
        rows = self._find(keys.numpy()[np.isfinite(values.numpy())])
        self._counts[rows] = 0
        self.update(keys, values)

    def merge(self, keys: Tensor, means: Tensor, counts: Tensor) -> None:
        """Merges means of other observations, weighted by their counts.

        What several processes saw in a step becomes one table that depends on
        their order by rounding only. So do two tables of different
        observations without ``decay``; with it, those that are merged into a
        table count as the later ones, as if they had been made after its own.

        Args:
            keys (Tensor): Keys, shape (n, ), int64; a key may come twice.
            means (Tensor): Mean of the observations of each, shape (n, ), as
                for :meth:`update`.
            counts (Tensor): Number of the observations, shape (n, ), int64.
        """
        number = _observations(counts.numpy())
        left_out = (number == 0) & (means != -torch.inf).numpy()
        self._observe(keys.numpy()[~left_out],
                      means.double().numpy()[~left_out], number[~left_out])

    def state_dict(self) -> dict[str, Tensor]:
        """The table as tensors: ``keys``, ``means``, ``counts``, each (n, ).

        The count of a key that has failed is ``~count``, below 0.

        Returns:
            dict[str, Tensor]: Copies, in the order in which the keys arrived.
        """
        return {name: torch.from_numpy(part.copy()) for name, part in
                zip(('keys', 'means', 'counts'), self._kept())}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Replaces the table by a saved one, the newest part if it is large.

        Args:
            state_dict (dict[str, Tensor]): What :meth:`state_dict` returned.

        Raises:
            ValueError: If it is not such a state.
        """
        expected = ('keys', 'means', 'counts')
        if set(state_dict) != set(expected) or len(
                {len(state_dict[name]) for name in expected}) != 1:
            raise ValueError(
                'This is no state of a SampleHistory (keys, means and counts '
                'of one length): load a checkpoint that AUSAM wrote, or set '
                '`resume=False` and `load_from` to start with its weights.')
        self._clear()
        self._some_failed = bool((state_dict['counts'] < 0).any())
        self._append(
            state_dict['keys'].to('cpu', torch.int64).numpy(),
            state_dict['means'].to('cpu', torch.float64).numpy(),
            state_dict['counts'].to('cpu', torch.int64).numpy())

    # -- rows: from _first, the oldest that is kept, to _end --

    def _clear(self) -> None:
        self._some_failed = False
        self._allocate(_MIN_CAPACITY)

    def _allocate(self, capacity: int) -> None:
        """An empty table with room for a number of rows."""
        self._keys = np.zeros(capacity, np.int64)
        self._means = np.zeros(capacity)
        self._counts = np.zeros(capacity, np.int64)
        # Empty slots name row 0, which stands for all unknown keys.
        self._slots = np.zeros(_SLOTS_PER_ROW * capacity, np.int32)
        self._shift = np.uint64(65 - len(self._slots).bit_length())
        self._means[0] = np.nan
        self._first = self._end = 1

    def _kept(self) -> tuple[_Ints, _Floats, _Ints]:
        rows = slice(self._first, self._end)
        return self._keys[rows], self._means[rows], self._counts[rows]

    def _observe(self, keys: _Ints, means: _Floats, counts: _Ints) -> None:
        finite = np.isfinite(means)
        if not finite.all():
            self._fail(np.unique(keys[means == -np.inf]))
            keys, means, counts = keys[finite], means[finite], counts[finite]
        rows, sums = self._find(keys), means * counts
        if rows.all() and not _has_duplicates(rows):
            self._add(rows, sums, counts)
            return
        keys, place = np.unique(keys, return_inverse=True)
        sums = np.bincount(place, sums, len(keys)).astype(np.float64)
        counts = np.bincount(place, counts, len(keys)).astype(np.int64)
        rows = self._find(keys)
        new, known = rows == 0, rows > 0
        # Before the new ones, which push out the oldest.
        self._add(rows[known], sums[known], counts[known])
        self._append(keys[new], sums[new] / counts[new], counts[new])

    def _add(self, rows: _Rows, sums: _Floats, added: _Ints) -> None:
        """Adds sums of observations to rows."""
        old, counts = self._means[rows], self._counts[rows]
        if self._some_failed:
            counts = _observations(counts)
        counts += added
        self._counts[rows] = counts
        self._means[rows] = old + (sums / added - old) * (
            self._weights(added) / self._weights(counts))

    def _weights(self, counts: _Ints) -> _Floats:
        """The weight of so many observations, up to a common factor.

        1 + decay + decay^2 + ...: the latest ones of n have that of their
        own number.
        """
        if self.decay == 1:
            return counts.astype(np.float64)
        weights: _Floats = np.expm1(counts * math.log(self.decay))
        return weights

    def _fail(self, keys: _Ints) -> None:
        """Marks keys as failed."""
        rows = self._find(keys)
        known, new = rows[rows > 0], keys[rows == 0]
        self._some_failed = self._some_failed or len(keys) > 0
        self._counts[known] = ~_observations(self._counts[known])
        self._append(new, np.zeros(len(new)), np.full(len(new), ~0))

    def _append(self, keys: _Ints, means: _Floats, counts: _Ints) -> None:
        """New rows for new keys, in place of the oldest if there is a most."""
        if self.max_samples is not None:
            newest = slice(-self.max_samples, None)
            keys, means, counts = keys[newest], means[newest], counts[newest]
            excess = len(self) + len(keys) - self.max_samples
            self._first += max(0, excess)
        if self._end + len(keys) > len(self._keys):
            kept = self._kept()
            # A quarter is free, so that this is rare where rows come and go.
            size = len(self) + len(keys)
            self._allocate(1 << (size + size // 4).bit_length())
            self._put(*kept)
        self._put(keys, means, counts)

    def _put(self, keys: _Ints, means: _Floats, counts: _Ints) -> None:
        """Writes rows to the end, where there is room."""
        rows = slice(self._end, self._end + len(keys))
        self._keys[rows], self._means[rows], self._counts[rows] = (
            keys, means, counts)
        self._end = rows.stop
        self._insert(np.arange(rows.start, rows.stop, dtype=np.int32))

    # -- the hash table: open addressing, slot by slot --

    def _first_slots(self, keys: _Ints) -> NDArray[np.int64]:
        slots = keys.view(np.uint64) * _GOLDEN
        slots >>= self._shift
        return slots.view(np.int64)

    def _find(self, keys: _Ints) -> _Rows:
        """The row of each key, shape (n, ); 0 where it is unknown."""
        slots = self._first_slots(keys)
        while True:
            rows = self._slots[slots]
            other = self._keys[rows] != keys
            if self._first > 1:  # there are rows that are no longer kept
                other |= rows < self._first
            other &= rows > 0  # an empty slot ends the search
            if not other.any():
                return rows
            slots = (slots + other) & (len(self._slots) - 1)

    def _insert(self, rows: _Rows) -> None:
        """Puts rows, whose keys are in none, into free slots."""
        slots = self._first_slots(self._keys[rows])
        while len(rows):
            free = self._slots[slots] == 0
            self._slots[slots[free]] = rows[free]
            # Of several in one slot the last has got it.
            left = self._slots[slots] != rows
            rows = rows[left]
            slots = (slots[left] + 1) & (len(self._slots) - 1)


def _observations(counts: _Ints) -> _Ints:
    """How many there were, also of keys that have failed."""
    return np.where(counts < 0, ~counts, counts)


def _has_duplicates(rows: _Rows) -> bool:
    rows = np.sort(rows)
    return bool((rows[1:] == rows[:-1]).any())


def gather_observations(keys: Tensor, values: Tensor, *more: Tensor,
                        offered: int = 0) -> tuple[Any, ...]:
    """What all processes observed in a step, the same in each of them.

    Two collectives: of two integers, and of 16 bytes a sample.

    Args:
        keys (Tensor): Keys of this process, shape (n, ), int64; n may differ
            from process to process.
        values (Tensor): Its observations, shape (n, ), float64.
        *more (Tensor): What else belongs to them, each (n, ), int64.
        offered (int): A number that is summed over the processes. Defaults
            to 0.

    Returns:
        tuple[int, Tensor, ...]: The sum, and the tensors of all processes in
        the order of the ranks.
    """
    if get_world_size() == 1:
        return offered, keys, values, *more
    rows = torch.stack([keys, values.view(torch.int64), *more], dim=1)
    total, rows = gather_rows(rows, offered)
    columns = rows.t().contiguous()
    return total, columns[0], columns[1].view(torch.float64), *columns[2:]


def gather_rows(rows: Tensor, number: int = 0) -> tuple[int, Tensor]:
    """Gathers the rows of all processes, which may have different numbers.

    Args:
        rows (Tensor): Those of this process, shape (n, c), on the CPU.
        number (int): A number that is summed over the processes. Defaults
            to 0.

    Returns:
        tuple[int, Tensor]: The sum, and the rows of all processes in the
        order of the ranks.
    """
    if get_world_size() == 1:
        return number, rows
    sizes, numbers = _gather(torch.tensor([len(rows), number])).unbind(1)
    padded = rows.new_zeros(int(sizes.max()), rows.size(1))
    padded[:len(rows)] = rows
    used = torch.arange(len(padded)) < sizes[:, None]
    return int(numbers.sum()), _gather(padded)[used]


def _gather(data: Tensor) -> Tensor:
    """The tensors of all processes, shape (processes, *data.shape).

    They are parts of one, which comes from a GPU at once: with MMEngine's
    all_gather the host waits for each.
    """
    device = get_comm_device()
    gathered = torch.empty(
        (get_world_size(), *data.shape), dtype=data.dtype, device=device)
    dist.all_gather([*gathered.unbind()], data.to(device))
    return gathered.cpu()
