"""Selection before decoding: what is not sampled is never loaded."""

import math
from functools import partial
from typing import Any, Callable, Iterator, List, Mapping, NamedTuple, Optional

import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.registry import DATA_SAMPLERS
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler

from ..checks import require
from .history import gather_rows
from .origins import Origins
from .selection import Draw

# Under this name a loaded data sample carries its ticket.
_TICKET = 'ausam_ticket'
# Under this name the message hub has a reference to the wrapper that draws.
DRAWER = 'ausam_mm/drawer'
# The key of a sample that was not loaded yet.
_UNKNOWN = torch.iinfo(torch.int64).min


class Ticket(NamedTuple):
    """What is to be known of a sample that was drawn before it is loaded.

    Attributes:
        rank (int): The process that drew it.
        batch (int): Number of the batch in the training.
        place (int): The sample's place in the whole batch.
        index (int): Its index in the dataset.
        origin (int): The number that :class:`Origins` gives it.
        size (int): Samples of the whole batch b.
        drawn (int): Samples that were drawn of it k2.
        climbs (int): 1 if the first pass sees it, else 0.
        descend_weight (float): 1 / (b * pi) in the second pass, or NaN.
        climb_weight (float): The same in the first pass, or NaN.
        effective_size (float): Of the draw, or NaN.
    """
    rank: int
    batch: int
    place: int
    index: int
    origin: int
    size: int
    drawn: int
    climbs: int
    descend_weight: float
    climb_weight: float
    effective_size: float


_RANK, _BATCH, _PLACE, _INDEX, _SIZE = map(
    Ticket._fields.index, ('rank', 'batch', 'place', 'index', 'size'))
_NO_ROWS = torch.empty(0, len(Ticket._fields), dtype=torch.float64)


class _DrawnIndex(int):
    """An index that takes its ticket along to where the sample is loaded."""

    ticket: Ticket

    @classmethod
    def of(cls, row: List[float]) -> '_DrawnIndex':
        ticket = Ticket(*map(int, row[:8]), *row[8:])
        drawn = cls(ticket.index)
        drawn.ticket = ticket
        return drawn


@DATA_SAMPLERS.register_module()
class AUSAMBatchSampler(BatchSampler):
    """Draws AUSAM's share of each batch before the workers see an index.

    In the step, AUSAM leaves out what was decoded and augmented already.
    This batch sampler asks the same wrapper for the same draw one stage
    earlier: of each batch of the sampler underneath it hands on the drawn
    indices alone (of a pair of ratios, the larger share). A ticket travels
    with each sample, as meta information of its data sample, and tells the
    wrapper the weights and which pass sees it; the wrapper then trains on
    what arrives. All options are the wrapper's.

    Its length is that of the whole batches, so that progress, schedulers and
    ``auto_scale_lr`` see the nominal batch. With workers a batch is drawn by
    the scores of ``num_workers * prefetch_factor`` steps before, and that
    many of the first batches are used whole, since nothing is known when
    they are drawn.

    The wrapper tells training samples apart by what their data samples say
    (:func:`sample_keys`), which is not known before they are loaded. So the
    batch sampler remembers, for each number that :class:`Origins` gives,
    which sample it brought last: 8 bytes a sample, which the checkpoint
    holds, too, and which all processes learn alike. Where MMEngine loads
    another sample for one that fails, it is the other that is scored.

    Args:
        sampler (Sampler): What puts the indices into an order.
        batch_size (int): Samples of a whole batch b, of one process.
        drop_last (bool): Whether an incomplete last batch is left out.
            Defaults to False.

    Attributes:
        skip (int): How many of the next batches are left out as if they were
            trained already; ExactResumeHook sets it.
        keys (Tensor): The key of each numbered sample, shape (N, ), int64.
        trained (int): Number of the next batch to train.

    Raises:
        TypeError: For options that are the wrapper's.
        ValueError: If the sampler does not say what dataset it is for.

    Example:
        >>> train_dataloader = dict(
        ...     batch_size=256, batch_sampler=dict(type='AUSAMBatchSampler'))
    """

    def __init__(self,
                 sampler: Sampler,
                 batch_size: int,
                 drop_last: bool = False,
                 **unknown) -> None:
        if unknown:
            name = next(iter(unknown))
            raise TypeError(
                f'AUSAMBatchSampler has no option {name}: it draws as AUSAM '
                'says, so set the options of the selection in optim_wrapper.')
        super().__init__(sampler, batch_size, drop_last)
        dataset = getattr(sampler, 'dataset',
                          getattr(sampler, 'data_source', None))
        require(
            dataset is not None,
            f'A {type(sampler).__name__} does not say which dataset it is '
            'for: give it an attribute `dataset`, as the samplers of MMEngine '
            'have it.')
        self.skip = 0
        self.origins = Origins(dataset)
        self.keys = torch.full((len(self.origins), ), _UNKNOWN)
        self.trained: Optional[int] = None
        self._number = 0  # of the next batch to draw
        self._fresh = [_NO_ROWS]
        self._pending = _NO_ROWS
        # Data loaders fetch a batch by this, where a dataset has it.
        load = getattr(dataset, '__getitems__', None) or partial(
            load_each, dataset)
        dataset.__getitems__ = partial(_load_with_tickets, load)

    def __iter__(self) -> Iterator[List[int]]:
        """The drawn indices of each batch.

        Raises:
            RuntimeError: If no AUSAM trains.
        """
        first = True
        for batch in super().__iter__():
            drawer = self._drawer()
            if drawer is not None:
                drawer.connect(self)
                if self.trained is None:
                    self.trained = drawer.num_steps
                if first:
                    self._find_number()
            first = False
            if self.skip:
                self.skip -= 1
                continue
            rows = self._draw(drawer, torch.tensor(batch))
            self._number += 1
            yield [_DrawnIndex.of(row) for row in rows.tolist()]

    def arrive(self, ticket: Ticket) -> None:
        """Is told that a batch is being trained.

        Args:
            ticket (Ticket): That of one of its samples.
        """
        # Resumed by a loop that does not throw away what comes first.
        self._number = max(self._number, self.trained)
        self.trained = max(self.trained, ticket.batch + 1)

    def learn(self, origins: Tensor, keys: Tensor) -> None:
        """Learns which samples arrived; every process has to call it.

        Args:
            origins (Tensor): What the samples of all processes were drawn
                as, shape (n, ), int64.
            keys (Tensor): Their keys, shape (n, ), int64.
        """
        # NumPy's last one wins where a sample came twice.
        self.keys.numpy()[origins.numpy()] = keys.numpy()
        # MMEngine saves checkpoints in the first process alone, so it has to
        # know what is on its way in the others.
        fresh = torch.cat(gather_rows(torch.cat(self._fresh)))
        self._fresh = [_NO_ROWS]
        pending = self._pending
        if len(fresh):  # what was drawn again, it replaces
            pending = pending[pending[:, _BATCH] < fresh[:, _BATCH].min()]
        pending = torch.cat([pending, fresh])
        self._pending = pending[pending[:, _BATCH] >= self.trained]

    def state_dict(self) -> dict:
        """What it learnt, and what is drawn but not trained."""
        return dict(
            trained=self.trained,
            keys=self.keys.clone(),
            pending=self._pending.clone())

    def load_state_dict(self, state: dict) -> None:
        """Takes up what :meth:`state_dict` returned.

        Args:
            state (dict): The state. If it is that of a dataset of another
                size, which sample an index stands for is learnt anew.
        """
        self.trained = state['trained']
        if len(state['keys']) == len(self.keys):
            self.keys = state['keys'].clone()
            self._pending = state['pending'].clone()

    @staticmethod
    def _drawer() -> Any:
        """The wrapper that draws, or None before it is built."""
        info = MessageHub.get_current_instance().runtime_info
        drawer = info.get(DRAWER, lambda: None)()
        # MMEngine 0.10.7 has its workers load before it builds the wrapper.
        if drawer is None and 'max_iters' in info:
            raise RuntimeError(
                'AUSAMBatchSampler draws by what AUSAM has learnt, but '
                "another optimizer wrapper trains here: set type='AUSAM' in "
                'optim_wrapper, or leave train_dataloader.batch_sampler out.')
        return drawer

    def _find_number(self) -> None:
        """Finds out which batch of the training an iteration starts with."""
        # To resume, MMEngine's iteration-based loop has what was trained
        # before loaded again, from the training's first batch on, and throws
        # it away. Others go on, and what was under way is lost.
        if self.skip or self._number > self.trained or counts_epochs(
                MessageHub.get_current_instance()):
            self._number = self.trained
            self._fresh = [_NO_ROWS]

    def _draw(self, drawer: Any, indices: Tensor) -> Tensor:
        """The tickets of the next batch as rows, shape (k2, 11)."""
        if drawer is None or self._number < self.trained:
            return self._rows(indices, Draw.everything(len(indices)))
        rows = self._drawn_before(indices)
        if rows is None:
            rows = self._rows(indices, drawer.choose(
                len(indices), self.keys[self.origins.of(indices)],
                self._number))
        self._fresh.append(rows)
        return rows

    def _drawn_before(self, indices: Tensor) -> Optional[Tensor]:
        """What the training that is resumed had drawn of the batch already."""
        rows = self._pending
        rows = rows[(rows[:, _RANK] == get_rank())
                    & (rows[:, _BATCH] == self._number)]
        if len(rows):
            size, places = rows[0, _SIZE], rows[:, _PLACE].long()
            if size == len(indices) and torch.equal(
                    indices[places], rows[:, _INDEX].long()):
                return rows
        return None

    def _rows(self, indices: Tensor, draw: Draw) -> Tensor:
        num = len(draw.descend)
        indices = indices[draw.descend]
        nan = torch.full((num, ), math.nan, dtype=torch.float64)
        climbs, climb_weights = torch.zeros(num), nan.clone()
        climbs[draw.climb] = 1
        if draw.climb_weights is not None:
            climb_weights[draw.climb] = draw.climb_weights
        ticket = Ticket(
            get_rank(), self._number, draw.descend, indices,
            self.origins.of(indices), draw.size, num, climbs,
            nan if draw.descend_weights is None else draw.descend_weights,
            climb_weights,
            nan if draw.effective_size is None else draw.effective_size)
        return torch.stack([
            torch.as_tensor(column, dtype=torch.float64).expand(num)
            for column in ticket], dim=1)


def tickets_of(data: Any) -> Optional[List[Ticket]]:
    """The tickets of a batch that was drawn before it was loaded.

    Args:
        data (dict | tuple | list): What the data loader returned.

    Returns:
        list[Ticket], optional: One for each sample, or None if any has none.
    """
    samples = data.get('data_samples') if isinstance(data, Mapping) else None
    if samples is None or isinstance(samples, Tensor) or not len(samples):
        return None
    tickets = [sample.get(_TICKET) if hasattr(sample, 'get') else None
               for sample in samples]
    return None if None in tickets else tickets


def draw_of(tickets: List[Ticket]) -> Draw:
    """The draw of the samples of a batch that arrived.

    Args:
        tickets (list[Ticket]): Theirs.

    Returns:
        Draw: What the passes see; of everything, if all was drawn.
    """
    first, num = tickets[0], len(tickets)
    weights = torch.tensor(
        [(ticket.descend_weight, ticket.climb_weight) for ticket in tickets],
        dtype=torch.float64)
    climb = torch.tensor([ticket.climbs for ticket in tickets]).nonzero()
    climb = climb.flatten()
    if len(climb):
        weights1 = weights[climb, 1]
    else:  # a collate_fn has dropped them
        climb, weights1 = torch.arange(num), weights[:, 0]
    weighted = not weights[:, 0].isnan().any()
    return Draw(
        num if first.drawn == first.size else first.size,
        torch.arange(num),
        climb,
        weights[:, 0] if weighted else None,
        weights1 if weighted else None,
        None if math.isnan(first.effective_size) else first.effective_size,
        loaded=num)


def counts_epochs(hub: MessageHub) -> bool:
    """Whether the loop does; one of iterations says it has a single epoch.

    Args:
        hub (MessageHub): The training's message hub.
    """
    return (hub.runtime_info.get('max_epochs') or 1) > 1


def load_each(dataset: Any, indices: List[int]) -> list:
    """The samples with these indices, as a data loader would load them."""
    return [dataset[index] for index in indices]


def _load_with_tickets(load: Callable[[List[int]], list],
                       indices: List[int]) -> list:
    """Loads samples, wherever it is done, and hands out their tickets."""
    samples = load([int(index) for index in indices])
    return [
        _with_ticket(sample, index.ticket)
        if isinstance(index, _DrawnIndex) else sample
        for index, sample in zip(indices, samples)
    ]


def _with_ticket(sample: Any, ticket: Ticket) -> dict:
    data_sample = sample.get('data_samples') if isinstance(
        sample, Mapping) else None
    if not isinstance(data_sample, BaseDataElement):
        raise ValueError(
            'AUSAMBatchSampler says by the data samples which pass sees them, '
            'but the dataset has none: return a dict with `inputs` and '
            '`data_samples`, a BaseDataElement, as PackInputs does, or leave '
            'train_dataloader.batch_sampler out.')
    # A dataset may keep what it returns and return it once more.
    data_sample = data_sample.new()
    data_sample.set_field(ticket, _TICKET, field_type='metainfo')
    return {**sample, 'data_samples': data_sample}
