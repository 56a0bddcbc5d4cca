"""Tables of the benchmarks, for a terminal and for a document."""

from typing import Dict, List

from rich import box
from rich.markup import escape
from rich.table import Table


def table_of(title: str, rows: List[Dict[str, str]], legend: str) -> Table:
    """A table for a terminal of 100 columns.

    Args:
        title (str): What was run.
        rows (list[dict[str, str]]): Cells by the head of their column; the
            first is the setting.
        legend (str): What the columns are.

    Returns:
        Table: The table.
    """
    table = Table(title=escape(title), caption=escape(legend),
                  box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False,
                  caption_justify='left')
    first, *others = rows[0]
    table.add_column(escape(first), overflow='fold')
    for name in others:
        table.add_column(escape(name), justify='right', no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row.values()))
    return table


def markdown_of(title: str, rows: List[Dict[str, str]], legend: str) -> str:
    """The same for a document."""
    lines = ([name.replace('\n', ' ') for name in rows[0]],
             ['---'] * len(rows[0]), *(row.values() for row in rows))
    return '\n'.join([title, '',
                      *(f'| {" | ".join(line)} |' for line in lines), '',
                      legend, ''])
