"""What the sub-commands of tools/analyze.py share."""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import set_random_seed
from rich.console import Console
from rich.progress import Progress
from torch.utils.data import DataLoader

from ...tooling.reports import Parts, console, table_of
from ...tooling.runner import add_trust, read_config, set_dataloader_defaults
from ...tooling.settings import make_loader, merge, positive, usable
from ..samples import Samples, find_samples

LOADED = ('The annotations do not tell which samples the training has seen, '
          'so that all images were loaded.')


def command_parser(doc: str, name: str) -> argparse.ArgumentParser:
    """A parser with what all sub-commands take.

    Args:
        doc (str): What the sub-command does.
        name (str): Its name.
    """
    parser = argparse.ArgumentParser(
        prog=f'analyze.py {name}', description=doc,
        formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('config', help='a file, or package::path')
    parser.add_argument('checkpoints', nargs='+', type=Path,
                        metavar='CHECKPOINT', help='files that trainings '
                        'with this config wrote')
    parser.add_argument('--out', '--work-dir', type=Path, help='folder of the '
                        'results; the default is\n'
                        f'work_dirs/analyze/{name}/<config>')
    parser.add_argument('--seed', type=int, default=0,
                        help='of samples, augmentation and whatever\nelse is '
                        'random (0)')
    parser.add_argument('--device', type=usable, default='cpu',
                        help='cpu, cuda, ...')
    add_trust(parser)
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        help='settings to override, key=value')
    return parser


def add_show_number(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds ``--show-number``: how many images are drawn.

    Args:
        parser (ArgumentParser): The parser.
        what (str): Which images, for the help.
    """
    parser.add_argument('--show-number', '-n', type=not_negative, default=12,
                        help=f'{what} (12); 0 for none')


def config_of(args: argparse.Namespace) -> Config:
    """The config, with the options of the command line."""
    cfg = read_config(args.config)
    merge(cfg, args.cfg_options)
    return cfg


def folder_of(args: argparse.Namespace, name: str) -> Path:
    """Where a sub-command writes."""
    return args.out or Path('work_dirs/analyze', name, Path(args.config).stem)


def at_least_two(text: str) -> int:
    """An integer of at least 2."""
    value = positive(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f'{text} must be 2 or more')
    return value


def not_negative(text: str) -> int:
    """An integer of at least 0."""
    return 0 if text.strip('0') == '' and text else positive(text)


def names_of(paths: Sequence[Path]) -> list[str]:
    """Short names of files, with their folder where they are alike."""
    number = Counter(path.stem for path in paths)
    return [path.stem if number[path.stem] == 1 else
            f'{path.parent.name}/{path.stem}' for path in paths]


def progress() -> Progress:
    """A progress bar beside the output."""
    return Progress(console=Console(stderr=True))


def show(parts: Sequence[Parts], out: Path, *files: str) -> None:
    """Prints tables, and what else is in the folder of the results."""
    terminal = console()
    for part in parts:
        terminal.print(table_of(*part), '')
    print(f'Written to {out}: {", ".join(files)}.')


def training_loader(cfg: Config, seed: int) -> tuple[DataLoader[Any], bool]:
    """The training data in order, and whether its samples are numbered.

    An AUSAMBatchSampler of the config numbers samples; it is left out.
    Augmentations draw from the global generators, which are seeded.
    """
    settings = cfg.train_dataloader
    numbered = settings.pop('batch_sampler', None) is not None
    settings.update(batch_size=1, num_workers=0,
                    sampler=dict(type='DefaultSampler', shuffle=False))
    set_dataloader_defaults(cfg, ['train_dataloader'], pin_memory=False)
    loader = make_loader(cfg, seed)
    set_random_seed(seed)
    return loader, numbered


def read_samples(args: argparse.Namespace, cfg: Config
                 ) -> tuple[Samples, Callable[[list[Any]], Any]]:
    """All samples of the training data, and what makes batches of them."""
    loader, numbered = training_loader(cfg, args.seed)
    with progress() as bar:
        task = bar.add_task('samples', total=len(loader))
        return find_samples(
            loader.dataset, loader.collate_fn, numbered,
            lambda number: bar.advance(task, number)), loader.collate_fn


def name_of_scores(cfg: Config) -> str:
    """What the scores in the table of a training are."""
    return 'last loss' if cfg.optim_wrapper.get('scores') == 'loss' \
        else 'ADLP'
