"""Selection before loading: what is not selected is never decoded."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.registry import DATA_SAMPLERS
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler

from ..checks import require
from ..internals import asking_loader
from .batch import batch_size, is_list, parts_of
from .history import gather_rows
from .origins import Origins
from .selection import Selection

# Under this name a loaded data sample carries its entry.
_ENTRY = 'ausam_entry'
# Under this name the message hub has a reference to the wrapper that selects.
SELECTOR = 'ausam_mm/selector'
# And under this one to a batch sampler that began before there was a wrapper.
WAITING = 'ausam_mm/waiting_batch_sampler'
# The key of a sample that was not loaded yet.
_UNKNOWN = torch.iinfo(torch.int64).min


class Entry(NamedTuple):
    """What crosses the workers with a sample: where it was selected.

    Attributes:
        batch (int): Number of the batch in the training.
        position (int): The sample's position in the full batch.
    """
    batch: int
    position: int


class _SelectedIndex(int):
    """An index that takes its entry along to where the sample is loaded."""

    entry: Entry

    @classmethod
    def of(cls, index: int, entry: Entry) -> _SelectedIndex:
        selected = cls(index)
        selected.entry = entry
        return selected


class _Pending(NamedTuple):
    """A batch that was selected and has not arrived.

    Attributes:
        selection (Selection): From the full batch.
        indices (Tensor): Indices in the dataset of the samples that the
            second pass sees, shape (k2, ), int64.
    """
    selection: Selection
    indices: Tensor

    def rows(self, number: int) -> Tensor:
        """One row a sample, for checkpoints, shape (k2, 9), float64."""
        selection, num = self.selection, len(self.indices)
        columns = torch.full((9, num), math.nan, dtype=torch.float64)
        columns[0], columns[1], columns[4] = get_rank(), number, selection.size
        columns[2], columns[3] = selection.descent, self.indices
        columns[5] = 0
        columns[5, selection.ascent_in_descent] = 1
        descent_weights, ascent_weights = (selection.descent_weights,
                                           selection.ascent_weights)
        if descent_weights is not None and ascent_weights is not None:
            columns[6] = descent_weights
            columns[7, selection.ascent_in_descent] = ascent_weights
        if selection.effective_size is not None:
            columns[8] = selection.effective_size
        return columns.t().contiguous()

    @classmethod
    def from_rows(cls, rows: Tensor) -> _Pending:
        """Undoes :meth:`rows`."""
        descent, indices, ascends = rows[:, 2].long(), rows[:, 3].long(), \
            rows[:, 5] == 1
        weighted = not rows[:, 6].isnan().any()
        effective = float(rows[0, 8])
        return cls(
            Selection(
                int(rows[0, 4]), descent, descent[ascends],
                rows[:, 6] if weighted else None,
                rows[ascends, 7] if weighted else None,
                None if math.isnan(effective) else effective), indices)


_RANK, _BATCH = 0, 1  # columns of the rows
_NO_ROWS = torch.empty(0, 9, dtype=torch.float64)


@DATA_SAMPLERS.register_module()
class AUSAMBatchSampler(BatchSampler):
    """Selects AUSAM's part of each batch before the workers see an index.

    In the step, AUSAM leaves out what was decoded and augmented already.
    This batch sampler asks the same wrapper for the same selection one stage
    earlier: of each batch of the sampler underneath it hands on the selected
    indices alone (of a pair of ratios, the larger part). The selection itself
    stays here, and the wrapper trains on what arrives. All options are the
    wrapper's.

    A data sample carries the number of its batch and its position there, as
    meta information. A batch without data samples is the next one that was
    selected, with its samples in that order.

    Its length is that of the full batches, so that progress, schedulers and
    ``auto_scale_lr`` see the nominal batch. With workers a batch is selected
    by the scores of ``num_workers * prefetch_factor`` steps before, and that
    many of the first batches are used whole, since nothing is known when
    they are selected.

    The wrapper tells training samples apart by what they say
    (:func:`sample_keys`), which is not known before they are loaded. So the
    batch sampler remembers, for each number that :class:`Origins` gives,
    which sample it returned last: 8 bytes a sample, which the checkpoint
    holds, too, and which all processes learn alike. Where MMEngine loads
    another sample for one that fails, it is the other that is scored. A
    sample that says nothing is known by that number.

    A checkpoint also holds the pending selections of all processes: with
    workers they were made by scores of earlier steps, which are gone, and
    rank 0, which saves alone, must know them all for an exact replay.

    Args:
        sampler (Sampler): What puts the indices into an order.
        batch_size (int): Samples of a full batch b, of one process.
        drop_last (bool): Whether an incomplete last batch is left out.
            Defaults to False.

    Attributes:
        skip (int): How many of the next batches are left out as if they were
            trained already; the exact-resume loops set it.
        keys (Tensor): The key of each numbered sample, shape (N, ), int64.
        trained (int): Number of the next batch to train.

    Raises:
        TypeError: For options that are the wrapper's.
        ValueError: If the sampler does not say what dataset it is for.

    Example:
        >>> train_dataloader = dict(
        ...     batch_size=256, batch_sampler=dict(type='AUSAMBatchSampler'))
        >>> optim_wrapper = dict(
        ...     type='AUSAM', optimizer=dict(type='SGD', lr=0.1))
    """

    def __init__(self,
                 sampler: Sampler[int],
                 batch_size: int,
                 drop_last: bool = False,
                 **unknown: Any) -> None:
        if unknown:
            name = next(iter(unknown))
            raise TypeError(
                f'AUSAMBatchSampler has no option {name}: it selects as AUSAM '
                'says, so set the options of the selection in optim_wrapper.')
        super().__init__(sampler, batch_size, drop_last)
        dataset: Any = getattr(sampler, 'dataset',
                               getattr(sampler, 'data_source', None))
        require(
            dataset is not None,
            f'A {type(sampler).__name__} does not say which dataset it is '
            'for: give it an attribute `dataset`, as the samplers of MMEngine '
            'have it.')
        self.skip = 0
        self.origins = Origins(dataset)
        self.keys = torch.full((len(self.origins), ), _UNKNOWN)
        self.trained = 0
        self._number = 0  # of the next batch to select
        self._pending: dict[int, _Pending] = {}  # by number, of this process
        # Numbers of batches that have not arrived, since the loader began.
        self._sent: deque[int] = deque()
        self._ahead: int | None = 0  # that the loader takes in advance
        self._new_rows = [_NO_ROWS]
        # Of all processes, by number of the batch, for the checkpoint.
        self._all_rows: dict[int, Tensor] = {}
        # Data loaders fetch a batch by this, where a dataset has it.
        load = getattr(dataset, '__getitems__', None) or partial(
            load_each, dataset)
        dataset.__getitems__ = partial(_load_with_entries, load)

    def __iter__(self) -> Iterator[list[int]]:
        """The selected indices of each batch.

        Raises:
            RuntimeError: If no AUSAM trains.
            ValueError: If the data loader does not keep the order.
        """
        loader = asking_loader()
        require(
            getattr(loader, 'in_order', True),
            'AUSAMBatchSampler knows the batches by their order, which '
            'in_order=False changes: leave it out of train_dataloader.')
        return self._batches(None if loader is None else (
            loader.num_workers * (loader.prefetch_factor or 0)))

    def _batches(self, ahead: int | None) -> Iterator[list[int]]:
        self._sent.clear()
        self._ahead = ahead
        first = True
        for batch in super().__iter__():
            selector = self._selector()
            if selector is None:
                MessageHub.get_current_instance().runtime_info[WAITING] = (
                    weakref.ref(self))
            else:
                selector.connect(self)
                if first:
                    self._find_number()
            first = False
            if self.skip:
                self.skip -= 1
                continue
            indices = torch.tensor(batch)
            selection = self._select(selector, indices)
            number, self._number = self._number, self._number + 1
            pending = _Pending(selection, indices[selection.descent])
            self._pending[number] = pending
            self._sent.append(number)
            if selector is not None and number >= self.trained:
                self._new_rows.append(pending.rows(number))
            yield [
                _SelectedIndex.of(index, Entry(number, position))
                for index, position in zip(pending.indices.tolist(),
                                           selection.descent.tolist())
            ]
        self._ahead = None  # it takes no more

    def arrived(self, data: Any) -> Selection:
        """What the passes see of a batch that was selected and is loaded.

        Returns:
            Selection: Of the samples that were loaded, with their
            ``origins``.

        Raises:
            ValueError: If its data samples do not say where they were
                selected, or there are none and not all samples have come.
        """
        entries = _entries_of(data)
        number = entries[0].batch if entries else self._next_to_arrive()
        # Resumed by a loop that does not replay trained batches.
        self._number = max(self._number, self.trained)
        self.trained = max(self.trained, number + 1)
        self._pending = {key: pending for key, pending in
                         self._pending.items() if key >= number}
        while self._sent and self._sent[0] <= number:
            self._sent.popleft()
        selection, indices = self._pending[number]
        if entries:
            place = torch.searchsorted(
                selection.descent,
                torch.tensor([entry.position for entry in entries]))
        else:
            size, wanted = batch_size(data), len(selection.descent)
            require(
                size == wanted,
                f'AUSAMBatchSampler has selected {wanted} samples for this '
                f'batch, of which {size} have come without saying which they '
                'are: let the collate_fn keep all in their order, or return '
                '`data_samples` with each, a BaseDataElement.')
            place = torch.arange(size)
        num = len(place)
        everything = len(selection.descent) == selection.size
        part = Selection(
            num if everything else selection.size, torch.arange(num),
            torch.isin(place, selection.ascent_in_descent).nonzero().flatten(),
            effective_size=selection.effective_size, loaded=num,
            origins=self.origins.of(indices[place]))
        descent_weights, ascent_weights = (selection.descent_weights,
                                           selection.ascent_weights)
        if descent_weights is not None and ascent_weights is not None:
            part.descent_weights = descent_weights[place]
            part.ascent_weights = ascent_weights[torch.searchsorted(
                selection.ascent_in_descent, place[part.ascent])]
        if not len(part.ascent):  # a collate_fn has dropped them
            part.ascent = part.descent
            part.ascent_weights = part.descent_weights
        return part

    def _next_to_arrive(self) -> int:
        """Number of the batch that has come, which does not say so itself."""
        sent = self._sent
        if self._ahead is not None:
            # What lies between has been loaded and thrown away.
            while len(sent) > self._ahead + 1:
                sent.popleft()
        elif any(number >= self.trained for number in sent):
            while sent[0] < self.trained:  # a resumed loop has replayed it
                sent.popleft()
        require(
            len(sent) > (self._ahead or 0),
            'AUSAMBatchSampler knows a batch without data samples by its '
            'order, but this one came twice or from elsewhere: train each '
            'batch of train_dataloader once.')
        return sent[0]

    def learn(self, origins: Tensor, keys: Tensor) -> None:
        """Learns which samples arrived; every process has to call it.

        Args:
            origins (Tensor): What the samples of all processes were selected
                as, shape (n, ), int64.
            keys (Tensor): Their keys, shape (n, ), int64.
        """
        # NumPy's last one wins where a sample came twice.
        self.keys.numpy()[origins.numpy()] = keys.numpy()
        _, new = gather_rows(torch.cat(self._new_rows))
        self._new_rows = [_NO_ROWS]
        self._remember(new)

    def _remember(self, new: Tensor) -> None:
        """Keeps selections of all processes until they are trained."""
        kept = self._all_rows
        if len(new):
            first, last = new[:, _BATCH].aminmax()
            kept = {number: rows for number, rows in kept.items()
                    if number < first}  # the others were selected again
            for number in range(int(first), int(last) + 1):
                kept[number] = new[new[:, _BATCH] == number]
        self._all_rows = {number: rows for number, rows in kept.items()
                          if number >= self.trained}

    def state_dict(self) -> dict[str, Any]:
        """What it learned, and what is selected but not trained."""
        return dict(
            trained=self.trained,
            keys=self.keys.clone(),
            pending=torch.cat([_NO_ROWS, *self._all_rows.values()]))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what :meth:`state_dict` returned.

        Args:
            state (dict): The state. If it is that of a dataset of another
                size, which sample an index stands for is learned anew.
        """
        self.trained = state['trained']
        if len(state['keys']) == len(self.keys):
            # MMEngine resumes with everything on the model's device.
            self.keys = state['keys'].to('cpu', copy=True)
            self._all_rows = {}
            self._remember(state['pending'].to('cpu', copy=True))

    @staticmethod
    def _selector() -> Any:
        """The wrapper that selects, or None before it is built."""
        info = MessageHub.get_current_instance().runtime_info
        selector = info.get(SELECTOR, lambda: None)()
        # MMEngine 0.10.7 has its workers load before it builds the wrapper.
        if selector is None and 'max_iters' in info:
            raise RuntimeError(
                'AUSAMBatchSampler selects by what AUSAM has learned, but '
                "another optimizer wrapper trains here: set type='AUSAM' in "
                'optim_wrapper, or leave train_dataloader.batch_sampler out.')
        return selector

    def _find_number(self) -> None:
        """Finds out which batch of the training an iteration starts with."""
        # To resume, MMEngine's iteration-based loop has what was trained
        # before loaded again, from the training's first batch on, and throws
        # it away. Others go on, and what was under way is lost.
        if self.skip or self._number > self.trained or counts_epochs(
                MessageHub.get_current_instance()):
            self._number = self.trained
            self._new_rows = [_NO_ROWS]

    def _select(self, selector: Any, indices: Tensor) -> Selection:
        """The selection from the next batch."""
        if selector is None or self._number < self.trained:
            return Selection.full_batch(len(indices))
        return self._selected_before(indices) or selector.select_from(
            len(indices), self.keys[self.origins.of(indices)], self._number)

    def _selected_before(self, indices: Tensor) -> Selection | None:
        """What the resumed training had selected from the batch already."""
        rows = self._all_rows.get(self._number, _NO_ROWS)
        rows = rows[rows[:, _RANK] == get_rank()]
        if not len(rows):
            return None
        pending = _Pending.from_rows(rows)
        same = pending.selection.size == len(indices) and torch.equal(
            indices[pending.selection.descent], pending.indices)
        return pending.selection if same else None


def _entries_of(data: Any) -> list[Entry]:
    """The entries of a batch's data samples; none if it has none of these.

    Raises:
        ValueError: If a data sample has no entry.
    """
    for part in parts_of(data):
        if is_list(part) and part and all(
                isinstance(sample, BaseDataElement) for sample in part):
            entries = [sample.get(_ENTRY) for sample in part]
            require(
                None not in entries,
                'AUSAMBatchSampler has selected this batch, but its data '
                'samples do not say so, and AUSAM would select from it once '
                'more: keep their meta information in collate_fn, or leave '
                'train_dataloader.batch_sampler out.')
            return entries
    return []


def counts_epochs(hub: MessageHub) -> bool:
    """Whether the loop does; one of iterations says it has a single epoch."""
    return (hub.runtime_info.get('max_epochs') or 1) > 1


def load_each(dataset: Any, indices: list[int]) -> list[Any]:
    """The samples with these indices, as a data loader would load them."""
    return [dataset[index] for index in indices]


def _load_with_entries(load: Callable[[list[int]], list[Any]],
                       indices: list[int]) -> list[Any]:
    """Loads samples, in whichever process, and hands out their entries."""
    samples = load([int(index) for index in indices])
    return [
        _with_entry(sample, index.entry)
        if isinstance(index, _SelectedIndex) else sample
        for index, sample in zip(indices, samples)
    ]


def _with_entry(sample: Any, entry: Entry) -> Any:
    """A sample whose data sample, if it has one, carries an entry."""
    if isinstance(sample, Mapping):
        return {name: _marked(part, entry) for name, part in sample.items()}
    if is_list(sample):
        parts = [_marked(part, entry) for part in sample]
        return type(sample)(*parts) if hasattr(sample, '_fields') else \
            type(sample)(parts)
    return sample


def _marked(part: Any, entry: Entry) -> Any:
    if isinstance(part, BaseDataElement):
        # A dataset may keep what it returns and return it once more.
        part = part.new()
        part.set_field(entry, _ENTRY, field_type='metainfo')
    return part
