"""The ADLP table: a score of each training sample."""

import torch
from mmengine.dist import all_gather, get_world_size
from torch import Tensor


class SampleHistory:
    """Running means of a quantity of each training sample, found by key.

    The table of Deng et al., AAAI 2025: for each sample the average, over the
    times it was used, of the difference in its loss before and after the
    perturbation (ADLP). Rows are in the order in which the keys arrived. They
    are found by binary search in a sorted index. Keys that are newer than the
    index are in a dict, and the index is rebuilt when they are a quarter of
    all. So a step costs about the same at any size, and ten million samples
    take about 500 MiB.

    All tensors live on the CPU, and :meth:`state_dict` holds nothing else, so
    that a checkpoint loads with ``weights_only=True``.

    Example:
        >>> import torch
        >>> from ausam_mm import SampleHistory
        >>> history = SampleHistory()
        >>> history.update(torch.tensor([7, 9]), torch.tensor([0.5, 0.1]))
        >>> history.update(torch.tensor([7]), torch.tensor([1.5]))
        >>> history.means(torch.tensor([7, 8, 9]))
        tensor([1.0000,    nan, 0.1000], dtype=torch.float64)
    """

    _MIN_UNSORTED = 4096

    def __init__(self) -> None:
        self._size = 0
        self._keys = torch.empty(0, dtype=torch.int64)
        self._means = torch.empty(0, dtype=torch.float64)
        self._counts = torch.empty(0, dtype=torch.int64)
        self._rebuild_index()

    def __len__(self) -> int:
        """The number of samples that were used at least once."""
        return self._size

    def means(self, keys: Tensor) -> Tensor:
        """The running mean of each key.

        Args:
            keys (Tensor): Keys, shape (n, ), int64.

        Returns:
            Tensor: Means, shape (n, ), float64; NaN where a key is unknown.
        """
        rows = self._rows(keys)
        if self._size == 0:
            return torch.full((len(keys), ), float('nan'), dtype=torch.double)
        return torch.where(rows >= 0, self._means[rows.clamp(min=0)],
                           float('nan'))

    def counts(self, keys: Tensor) -> Tensor:
        """How often each key was used.

        Args:
            keys (Tensor): Keys, shape (n, ), int64.

        Returns:
            Tensor: Counts, shape (n, ), int64; 0 where a key is unknown.
        """
        rows = self._rows(keys)
        if self._size == 0:
            return torch.zeros(len(keys), dtype=torch.int64)
        return torch.where(rows >= 0, self._counts[rows.clamp(min=0)], 0)

    def update(self, keys: Tensor, values: Tensor) -> None:
        """Adds an observation of each key to its mean.

        Args:
            keys (Tensor): Keys, shape (n, ), int64; a key may come twice.
            values (Tensor): Observations, shape (n, ). Those that are not
                finite are left out.
        """
        self.merge(keys, values, torch.ones_like(keys))

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Replaces all earlier observations of each key.

        Args:
            keys (Tensor): Keys, shape (n, ), int64; a key may come twice.
            values (Tensor): Observations, shape (n, ). Those that are not
                finite are left out.
        """
        rows = self._rows(keys[values.isfinite()])
        self._counts[rows[rows >= 0]] = 0
        self.update(keys, values)

    def merge(self, keys: Tensor, means: Tensor, counts: Tensor) -> None:
        """Merges means of other observations, weighted by their counts.

        What several processes saw in a step, or two tables of different
        observations, become one table that depends on their order by rounding
        only.

        Args:
            keys (Tensor): Keys, shape (n, ), int64; a key may come twice.
            means (Tensor): Mean of the observations of each, shape (n, ).
                Those that are not finite are left out.
            counts (Tensor): Number of the observations, shape (n, ), int64.
        """
        means = means.double()
        valid = means.isfinite() & (counts > 0)
        keys, means, counts = keys[valid], means[valid], counts[valid]
        keys, place = torch.unique(keys, return_inverse=True)
        added = torch.zeros(len(keys), dtype=torch.int64)
        added.index_add_(0, place, counts)
        sums = torch.zeros(len(keys), dtype=torch.float64)
        sums.index_add_(0, place, means * counts)

        rows = self._rows(keys)
        unknown = rows < 0
        if unknown.any():
            rows[unknown] = self._append(keys[unknown])
        self._counts[rows] += added
        old = self._means[rows]
        self._means[rows] = old + (sums - old * added) / self._counts[rows]

    def state_dict(self) -> dict[str, Tensor]:
        """The table as tensors: ``keys``, ``means``, ``counts``, each (n, ).

        Returns:
            dict[str, Tensor]: Copies, in the order in which the keys arrived.
        """
        return {
            'keys': self._keys[:self._size].clone(),
            'means': self._means[:self._size].clone(),
            'counts': self._counts[:self._size].clone()
        }

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Replaces the table by a saved one.

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
        self._size = len(state_dict['keys'])
        self._keys = state_dict['keys'].to('cpu', torch.int64).clone()
        self._means = state_dict['means'].to('cpu', torch.float64).clone()
        self._counts = state_dict['counts'].to('cpu', torch.int64).clone()
        self._rebuild_index()

    def _rows(self, keys: Tensor) -> Tensor:
        """The row of each key, shape (n, ); -1 where it is unknown."""
        if len(self._sorted_keys) == 0:
            rows = torch.full((len(keys), ), -1, dtype=torch.int64)
        else:
            place = torch.searchsorted(self._sorted_keys, keys)
            place.clamp_(max=len(self._sorted_keys) - 1)
            rows = torch.where(self._sorted_keys[place] == keys,
                               self._sorted_rows[place], -1)
        if self._unsorted:
            absent = rows < 0
            rows[absent] = torch.tensor(
                [self._unsorted.get(key, -1) for key in keys[absent].tolist()],
                dtype=torch.int64)
        return rows

    def _append(self, keys: Tensor) -> Tensor:
        """New rows for new keys; returns their numbers."""
        start, self._size = self._size, self._size + len(keys)
        if self._size > len(self._keys):
            capacity = max(2 * len(self._keys), self._size, 1024)
            for name in ('_keys', '_means', '_counts'):
                grown = getattr(self, name).new_zeros(capacity)
                grown[:start] = getattr(self, name)[:start]
                setattr(self, name, grown)
        self._keys[start:self._size] = keys
        self._unsorted.update(
            zip(keys.tolist(), range(start, self._size)))
        if len(self._unsorted) > max(self._MIN_UNSORTED, self._size // 4):
            self._rebuild_index()
        return torch.arange(start, self._size)

    def _rebuild_index(self) -> None:
        self._unsorted: dict[int, int] = {}
        self._sorted_keys, self._sorted_rows = torch.sort(
            self._keys[:self._size])


def gather_observations(keys: Tensor, values: Tensor,
                        *more: Tensor) -> tuple[Tensor, ...]:
    """What all processes observed in a step, the same in each of them.

    Two collectives: of one integer, and of 16 bytes a sample.

    Args:
        keys (Tensor): Keys of this process, shape (n, ), int64; n may differ
            from process to process.
        values (Tensor): Its observations, shape (n, ), float64.
        *more (Tensor): What else belongs to them, each (n, ), int64.

    Returns:
        tuple[Tensor, ...]: The same in the order of the ranks.
    """
    if get_world_size() == 1:
        return keys, values, *more
    rows = torch.stack([keys, values.view(torch.int64), *more], dim=1)
    columns = torch.cat(gather_rows(rows)).t().contiguous()
    return columns[0], columns[1].view(torch.float64), *columns[2:]


def gather_rows(rows: Tensor) -> list[Tensor]:
    """Gathers the rows of all processes, which may have different numbers.

    Args:
        rows (Tensor): Those of this process, shape (n, c), on the CPU.

    Returns:
        list[Tensor]: Those of each process, by rank.
    """
    if get_world_size() == 1:
        return [rows]
    sizes = [int(size) for size in all_gather(torch.tensor([len(rows)]))]
    padded = rows.new_zeros(max(sizes), rows.size(1))
    padded[:len(rows)] = rows
    return [part[:size] for part, size in zip(all_gather(padded), sizes)]
