"""What the sub-commands share that compare the weights of trainings."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ...checks import require
from ...tooling.settings import build_model, positive
from ..objective import (
    Objective,
    batches_of,
    check_file,
    load_weights,
    read_samples,
)
from .common import (
    at_least_two,
    command_parser,
    names_of,
    training_loader,
)


def weights_parser(doc: str, name: str) -> argparse.ArgumentParser:
    """A parser with what these sub-commands take."""
    parser = command_parser(doc, name)
    parser.add_argument('--names', nargs='+', metavar='NAME', help='a name '
                        'for each checkpoint, or for as many in a\nrow: 6 '
                        'names for 30 checkpoints are of 5 each.\nThose of '
                        'one name are averaged')
    parser.add_argument('--samples', type=at_least_two, default=512,
                        help='samples of the training data (512)')
    parser.add_argument('--batch-size', type=positive,
                        help="samples of a batch; the default is the config's")
    return parser


class Comparison:
    """Checkpoints of one architecture on the same samples.

    Args:
        args (Namespace): Arguments of :func:`weights_parser`.
        cfg (Config): The config, with the data of all.

    Attributes:
        names (list[str]): The name of each checkpoint.
        labels (list[str]): The same, with the file where names are alike.
        samples (list): The samples, as many as fill the batches.
        objective (Objective): Their loss.
    """

    def __init__(self, args: argparse.Namespace, cfg: Config) -> None:
        self.files: list[Path] = args.checkpoints
        for file in self.files:
            check_file(file)
        self.names = repeated_names(args.names, self.files)
        numbers = Counter(self.names)
        self.labels = [
            name if numbers[name] == 1 else f'{name}: {file}'
            for name, file in zip(self.names, names_of(self.files))]
        size = args.batch_size or cfg.train_dataloader.get('batch_size', 1)
        loader, _ = training_loader(cfg, args.seed)
        dataset: Any = loader.dataset
        number = min(args.samples, len(dataset))
        size = min(size, number)
        require(number > 1, 'The training data has one sample: name a config '
                'with more.')
        self._collate = loader.collate_fn
        self.samples = read_samples(dataset, number // size * size, args.seed)
        self.batch_size = size
        self.model: nn.Module = build_model(cfg).to(args.device)
        self.objective = Objective(self.model, self._batches(size))

    def _batches(self, size: int) -> list[Any]:
        return batches_of(self.samples, size, self._collate)

    def parts(self, size: int) -> list[Objective]:
        """The losses of sub-batches of the same samples."""
        require(
            size <= len(self.samples), f'{len(self.samples)} samples make no '
            f'sub-batch of {size}: take a smaller --m, or more --samples.')
        return [Objective(self.model, [data])
                for data in self._batches(size)]

    def each(self) -> Iterator[tuple[str, float]]:
        """Loads the checkpoints; the label and the loss of each."""
        for label, file in zip(self.labels, self.files):
            load_weights(file, self.model)
            yield label, self.objective.check(str(file))

    def settings(self, args: argparse.Namespace) -> dict[str, Any]:
        """What a summary says of the samples."""
        return dict(
            config=args.config, cfg_options=args.cfg_options,
            samples=len(self.samples), batch_size=self.batch_size,
            seed=args.seed, device=args.device)


def repeated_names(names: Sequence[str] | None,
                   files: Sequence[Path]) -> list[str]:
    """The name of each file, of names for as many in a row."""
    if not names:
        return names_of(files)
    require(
        len(files) % len(names) == 0, f'{len(names)} --names do not suit '
        f'{len(files)} checkpoints: give each one a name, or one name to as '
        'many in a row.')
    each = len(files) // len(names)
    return [name for name in names for _ in range(each)]


def read_results(folder: Path, files: Sequence[Path]) -> list[float]:
    """What a study's runs reached, by the folders of their checkpoints.

    Args:
        folder (Path): The study's results, or their runs.
        files (Sequence[Path]): The checkpoints.

    Raises:
        ValueError: If there is none of a checkpoint's folder.
    """
    runs = folder / 'runs' if (folder / 'runs').is_dir() else folder
    values = []
    for file in files:
        path = runs / f'{file.absolute().parent.name}.json'
        require(path.is_file(), f'There is no result {path} of {file}: name '
                'the results of the study that has trained it.')
        values.append(float(json.loads(path.read_text())['value']))
    return values
