"""Which samples a data set has, and what the table of a training knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import UntrustedCheckpointError
from ..checks import require
from ..datasets import wrong_samples
from ..engine.wrapper import STATE
from ..sampling import SampleHistory, identities, keys_of
from ..sampling.batch import IDENTITY, Identity
from ..sampling.origins import Origins

# Samples that are loaded at a time where nothing else tells who they are.
_PART = 64


@dataclass
class Samples:
    """The different samples of a data set, in its order.

    Attributes:
        indices (Tensor): An index of each in the data set, of the first of
            its copies, shape (n, ), int64.
        keys (Tensor): Their keys in the table, shape (n, ), int64.
        groups (Tensor): The number of each one's class, or of its data set
            for poses; -1 where it has none, shape (n, ), int64.
        names (list[str]): Names of the groups.
        grouped (str): What the groups are, 'class' or 'data set'.
        paths (list[str]): Their images; empty without files.
        wrong (Tensor, optional): Which are known to have a wrong label, shape
            (n, ), bool; None if no sample is.
        loaded (bool): Whether their images had to be loaded.
    """
    indices: Tensor
    keys: Tensor
    groups: Tensor
    names: list[str]
    grouped: str
    paths: list[str]
    wrong: Tensor | None
    loaded: bool

    def __len__(self) -> int:
        return len(self.indices)

    def name_of(self, group: int) -> str:
        """The name of a class, or its number; empty for -1."""
        if group < 0:
            return ''
        return self.names[group] if group < len(self.names) else str(group)

    @property
    def shared(self) -> int:
        """How many have the key, and so the score, of an earlier one."""
        return len(self) - len(np.unique(self.keys.numpy()))


def find_samples(dataset: Any, collate: Callable[[list[Any]], Any],
                 numbered: bool = False,
                 visited: Callable[[int], Any] = lambda number: None,
                 load: bool = True) -> Samples:
    """All samples of the training data, without their images if possible.

    The annotations tell who a sample is if they do so for the samples that
    are loaded to compare: the first and the last, one in the middle, and the
    first of each data set that is joined. Otherwise all are loaded.

    Args:
        dataset (Dataset): The training data.
        collate (Callable): What makes a batch of samples.
        numbered (bool): Whether the training had an AUSAMBatchSampler, which
            knows samples by their numbers, too. Defaults to False.
        visited (Callable): Called with a number of samples when they are
            found. Defaults to nothing.
        load (bool): Whether images may be loaded to find out. Defaults to
            True.

    Raises:
        ValueError: If a sample has no identity, or only its image tells.
    """
    origins = Origins(dataset)
    numbers = origins.of(torch.arange(len(dataset)))
    _, first = np.unique(numbers.numpy(), return_index=True)
    indices = torch.from_numpy(np.sort(first))
    names = _identifying_fields(dataset, collate)
    annotated = names is not None
    require(annotated or load, 'The annotations do not tell which samples the '
            'training sees: set number=0 to show no images.')
    rows: list[tuple[Identity, Any, str, str]] = []
    infos = (dataset.get_data_info(i) for i in indices.tolist()) \
        if annotated else _loaded(dataset, collate, indices)
    for info in infos:
        found = {name: _plain(info[name]) for name in names or IDENTITY
                 if info.get(name) is not None}
        rows.append((found, _label(info), str(info.get('dataset_name') or ''),
                     str(info.get('img_path') or '')))
        if len(rows) % 1000 == 0:
            visited(1000)
    visited(len(rows) % 1000)
    identity, labels, sets, paths = zip(*rows)
    anonymous = not any(identity)
    keys = keys_of(
        [] if anonymous else list(identity),
        numbers[indices] if numbered else None, origins.restarts_index)
    groups, group_names, grouped = _groups(labels, sets, dataset)
    wrong = wrong_labels(dataset)
    return Samples(
        indices, keys, groups, group_names, grouped,
        list(paths) if all(paths) else [],
        None if wrong is None else wrong[indices], not annotated)


def wrong_labels(dataset: Any) -> Tensor | None:
    """Which samples of a data set have a wrong label, if any has one."""
    try:
        wrong = wrong_samples(dataset)
    except ValueError:  # nobody knows
        return None
    return wrong if bool(wrong.any()) else None


def _identifying_fields(dataset: Any, collate: Callable[[list[Any]], Any]
                        ) -> list[str] | None:
    """Fields that identify samples in batches and annotations alike.

    Returns:
        list[str], optional: None where the annotations do not tell.
    """
    if not hasattr(dataset, 'get_data_info'):
        return None
    ends = list(getattr(dataset, 'cumulative_sizes', []))[:-1]
    names: set[tuple[str, ...]] = set()
    for i in {0, len(dataset) // 2, len(dataset) - 1, *ends}:
        found = identities(collate([dataset[i]]))
        info = dataset.get_data_info(i)
        loaded = found[0] if found else {}
        if any(_plain(info.get(name)) != value
               for name, value in loaded.items()):
            return None
        names.add(tuple(loaded))
    return list(names.pop()) if len(names) == 1 else None


def _loaded(dataset: Any, collate: Callable[[list[Any]], Any],
            indices: Tensor) -> Iterable[dict[str, Any]]:
    """What batches say of samples, of all that is in a data set."""
    for part in indices.split(_PART):
        data = collate([dataset[i] for i in part.tolist()])
        found = identities(data)
        samples = data.get('data_samples') if isinstance(data, dict) else None
        for i in range(len(part)):
            info = dict(found[i]) if found else {}
            if isinstance(samples, (list, tuple)) \
                    and hasattr(samples[i], 'get'):
                info['gt_label'] = samples[i].get('gt_label')
            yield info


def _plain(value: Any) -> Any:
    """A number for a tensor or an array of one."""
    return value.tolist() if hasattr(value, 'tolist') else value


def _label(info: Any) -> int:
    """The class in an annotation; -1 if there is not one."""
    label = _plain(info.get('gt_label'))
    if isinstance(label, list) and len(label) == 1:
        label, = label
    return label if isinstance(label, int) else -1


def _groups(labels: Iterable[int], sets: Iterable[str],
            dataset: Any) -> tuple[Tensor, list[str], str]:
    classes = torch.tensor(list(labels))
    if bool((classes >= 0).any()):
        known = getattr(dataset, 'metainfo', None) or {}
        names = [str(name) for name in known.get('classes') or ()]
        return classes, names or [
            str(i) for i in range(int(classes.max()) + 1)], 'class'
    found, numbers = np.unique(list(sets), return_inverse=True)
    groups = torch.from_numpy(numbers.astype(np.int64))
    if found.tolist() == ['']:
        return groups.fill_(-1), [], 'data set'
    return groups, found.tolist(), 'data set'


# -- checkpoints --


def open_checkpoint(path: Path) -> dict[str, Any]:
    """What a training wrote.

    Raises:
        ValueError: If there is no such file, or it is no checkpoint.
    """
    require(path.is_file(), f'There is no checkpoint {path}: name the files '
            'that a training with AUSAM has written, such as epoch_2.pth.')
    try:
        checkpoint = torch.load(path, map_location='cpu')
    except UntrustedCheckpointError:
        raise
    except (EOFError, RuntimeError) as error:
        raise ValueError(
            f'{path} is no checkpoint, or is truncated: name an older one.'
        ) from error
    require(isinstance(checkpoint, dict) and 'state_dict' in checkpoint,
            f'{path} has no weights of a model: name a checkpoint that '
            'MMEngine has written.')
    return dict(checkpoint)


def find_table(checkpoint: dict[str, Any],
               name: str = 'history') -> dict[str, Tensor]:
    """The state of a table in a checkpoint; empty if it has none.

    Args:
        checkpoint (dict): What a training wrote.
        name (str): 'history', the scores, or 'losses', those that AUSAM has
            with ``keep_losses``. Defaults to 'history'.
    """
    state = checkpoint.get('optimizer', {})
    table: dict[str, Tensor] = state.get(STATE, {}).get(name, {}) \
        if isinstance(state, dict) else {}
    return table if len(table.get('keys', ())) else {}


def table_in(checkpoint: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The state of the ADLP table in a checkpoint.

    Raises:
        ValueError: If it has none.
    """
    table = find_table(checkpoint)
    require(table, f'{path} has no ADLP table: name a checkpoint of a '
            'training with AUSAM, written with the state of its optimizer '
            '(CheckpointHook, save_optimizer=True).')
    return table


def history_in(checkpoint: dict[str, Any], path: Path) -> SampleHistory:
    """The table in a checkpoint, without the model.

    Raises:
        ValueError: If it has none.
    """
    history = SampleHistory()
    history.load_state_dict(table_in(checkpoint, path))
    return history


def kept_losses(checkpoint: dict[str, Any],
                samples: Samples) -> Tensor | None:
    """The losses that AUSAM has kept of samples, shape (n, ), float64.

    Returns:
        Tensor, optional: NaN for samples without one; None if it has kept
        none.
    """
    table = find_table(checkpoint, 'losses')
    if not table:
        return None
    history = SampleHistory()
    history.load_state_dict(table)
    return history.means(samples.keys)


def require_known(number: int) -> None:
    """Raises a ValueError if a table knows no sample."""
    require(number > 0, 'The ADLP table of the checkpoint knows none of the '
            'samples: name the config, with the data, of its training.')
