"""Tables for a terminal of 100 columns and for a document, and files."""

import json
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# A row: its cells by the head of their column, the row's name first.
Row = dict[str, str]
# Title, rows and a legend of the columns.
Parts = tuple[str, list[Row], str]


def console() -> Console:
    """The terminal, or 100 columns where the output is none."""
    return Console(width=None if sys.stdout.isatty() else 100)


def processor() -> str:
    """The processor's name."""
    name = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.exists():
        name = next((line.split(':')[1].strip()
                     for line in info.read_text().splitlines()
                     if line.startswith('model name')), name)
    return name


def machine() -> str:
    """A line that names processor, threads and torch."""
    return (f'{processor()}, {torch.get_num_threads()} threads, '
            f'torch {torch.__version__}')


def compare_pairs(seconds: Sequence[float],
                  first: Sequence[float]) -> dict[str, Any]:
    """Ratios to another setting's times, round by round, and their spread."""
    ratios = [a / b for a, b in zip(seconds, first)]
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
    return dict(ratio=median, quartiles=[low, high], ratios=ratios,
                range=[min(ratios), max(ratios)])


def table_of(title: str, rows: list[Row], legend: str = '') -> Table:
    """A table for a terminal."""
    table = Table(title=escape(title), caption=escape(legend),
                  box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False,
                  caption_justify='left')
    first, *others = rows[0]
    table.add_column(escape(first), overflow='fold', min_width=16)
    for name in others:
        table.add_column(escape(name), justify='right', no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row.values()))
    return table


def markdown_of(title: str, rows: list[Row], legend: str = '') -> str:
    """The same for a document."""
    lines = ([name.replace('\n', ' ') for name in rows[0]],
             ['---'] * len(rows[0]), *(row.values() for row in rows))
    return '\n'.join([title, '',
                      *(f'| {" | ".join(line)} |' for line in lines), '',
                      legend, ''])


def write_page(page: Path, text: str, append: bool = False) -> None:
    """Puts what was measured between the marks of a page.

    Args:
        page (Path): A page with ``<!-- measured -->`` and ``<!-- end -->``.
        text (str): What comes between them.
        append (bool): Whether it comes after what is there, or replaces it.
            Defaults to False.
    """
    start, end = '<!-- measured -->\n', '<!-- end -->'
    before, _, rest = page.read_text(encoding='utf-8').partition(start)
    earlier, _, after = rest.partition(end)
    if append:
        text = earlier + text
    page.write_text(f'{before}{start}{text}{end}{after}', encoding='utf-8')


def print_table(title: str, cells: list[Row], out: Path | None = None,
                **figures: Any) -> None:
    """Prints a table and the machine, and writes figures to a JSON file."""
    terminal = console()
    terminal.print(table_of(title, cells), machine(), sep='\n')
    if out:
        out.write_text(json.dumps(dict(machine=machine(), **figures)))


def write_summary(out: Path, tables: list[Parts], command: Sequence[str],
                  **figures: Any) -> None:
    """Writes summary.md with the tables, and summary.json."""
    out.mkdir(parents=True, exist_ok=True)
    (out / 'summary.md').write_text('\n'.join(
        [*(markdown_of(*parts) for parts in tables), machine(), '']))
    (out / 'summary.json').write_text(json.dumps(dict(
        machine=machine(), command=shlex.join(command), **figures), indent=2))


def print_result(result: dict[str, Any],
                 parts_of: Callable[[dict[str, Any]], Parts]) -> None:
    """Prints a config's table, and which trainings overflowed."""
    terminal = console()
    terminal.print(table_of(*parts_of(result)))
    for row in result['rows']:
        if not row['finite']:
            terminal.print(
                f'The training of {row["setting"]} overflowed, so that its '
                'steps may be cheaper than usual: lower the learning rate, '
                '--cfg-options optim_wrapper.optimizer.lr=1e-3.',
                markup=False)
