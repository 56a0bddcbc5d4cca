"""What tools/analyze.py and others wrote: tables and pictures."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import require
from ..tooling.reports import Row
from .pictures import SUFFIXES, Picture

# A line of cells; a pipe in a cell is escaped.
_CELLS = re.compile(r'(?<!\\)\|')
_SUMMARY = ('summary.json', 'summary.md')


@dataclass
class Block:
    """A part of a text: a heading, a paragraph or a table."""
    kind: str
    text: str = ''
    rows: list[Row] = field(default_factory=list)


@dataclass
class Analysis:
    """A folder of results.

    Attributes:
        title (str): The sub-command of tools/analyze.py, or the folder.
        path (Path): The folder.
        command (str): What wrote it.
        blocks (list[Block]): Its summary.md.
        pictures (list[Picture]): Its pictures.
    """
    title: str
    path: Path
    command: str
    blocks: list[Block]
    pictures: list[Picture]


def find_analyses(folder: Path) -> list[Path]:
    """Folders with a summary, in a folder or deeper."""
    return sorted(path.parent for path in folder.rglob(_SUMMARY[0])
                  if (path.parent / _SUMMARY[1]).is_file())


def given_analyses(folders: Sequence[Path]) -> list[Path]:
    """The same for folders that someone named.

    Raises:
        ValueError: If there is no summary in one of them.
    """
    found = []
    for folder in folders:
        there = find_analyses(folder)
        require(there, f'{folder} has no summary.json with a summary.md: name '
                'a folder that tools/analyze.py has written.')
        found += there
    return found


def read_analysis(folder: Path) -> Analysis:
    """Reads a folder of results.

    Where summary.json has a dict 'pictures', of texts by file name, it says
    what they show; else the titles of the tables do.

    Raises:
        ValueError: If a file cannot be read.
    """
    try:
        summary: dict[str, Any] = json.loads(
            (folder / _SUMMARY[0]).read_text(encoding='utf-8'))
        text = (folder / _SUMMARY[1]).read_text(encoding='utf-8')
        command = str(summary.get('command', ''))
        texts: dict[str, str] = summary.get('pictures') or {}
        assert isinstance(texts, dict)
    except (AssertionError, AttributeError, OSError, ValueError) as error:
        raise ValueError(f'{folder / _SUMMARY[0]} cannot be read ({error}): '
                         'run the analysis again.') from error
    named = re.search(r'analyze\.py (\w+)', command)
    title = named[1] if named else folder.name
    blocks = list(parse(text))
    titles = '; '.join(
        before.text for before, after in zip(blocks, blocks[1:])
        if after.kind == 'table' and before.kind != 'table')
    pictures = []
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() in SUFFIXES and _nearest(path) == folder:
            caption = path.relative_to(folder).with_suffix('').as_posix() \
                .replace('_', ' ').replace('/', ', ')
            name = path.relative_to(folder).as_posix()
            shown = texts.get(name) or texts.get(path.name)
            pictures.append(Picture(
                path, str(shown or caption),
                str(shown or f'{caption}, of the {title} analysis: {titles}')))
    return Analysis(title, folder, command, blocks, pictures)


def _nearest(path: Path) -> Path | None:
    """The folder whose summary a picture belongs to."""
    return next((folder for folder in path.parents
                 if (folder / _SUMMARY[0]).is_file()), None)


def parse(text: str) -> Iterator[Block]:
    """Headings, paragraphs and tables of a Markdown text.

    Of what reports write; pictures are left out, and lists are paragraphs.
    """
    for part in re.split(r'\n\s*\n', text.strip()):
        lines = part.strip().splitlines()
        if len(lines) > 1 and re.fullmatch(r'[\s|:-]+', lines[1]) \
                and '|' in lines[1]:
            head, _, *body = map(_cells, lines)
            yield Block('table', rows=[
                dict(zip(head, cells)) for cells in body])
        elif lines and lines[0].startswith('#'):
            yield Block('heading', lines[0].lstrip('# '))
            yield from parse('\n'.join(lines[1:]))
        elif lines and not lines[0].startswith('!['):
            yield Block('paragraph', '\n'.join(lines))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace('\\|', '|')
            for cell in _CELLS.split(line.strip().strip('|'))]
