"""The page: one HTML file that asks for nothing else."""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ..checks import require
from ..version import __version__
from .analyses import Analysis
from .comparison import Comparison, deviations
from .figures import AXES, figures_of, rounded
from .pictures import embed
from .tables import (
    accuracy_table,
    cost_table,
    methods_table,
    settings_tables,
)

TEMPLATES = Path(__file__).with_name('templates')
# A page that a phone loads, and a mail takes.
LIMIT = 5_000_000


def render(comparisons: Sequence[Comparison], analyses: Sequence[Analysis],
           command: str) -> str:
    """The page of comparisons.

    Pictures become smaller until it has at most ``LIMIT`` bytes; those that
    still do not fit are left out, and named.

    Args:
        comparisons (Sequence[Comparison]): What is compared.
        analyses (Sequence[Analysis]): Analyses that belong to all of them.
        command (str): What makes the page again.

    Raises:
        ValueError: If plotly is not installed, or the page is larger without
            pictures.
    """
    figures: dict[str, Any] = {}
    chapters = [_chapter(comparison, i, figures)
                for i, comparison in enumerate(comparisons)]
    title = ', '.join(comparison.title for comparison in comparisons)
    content: dict[str, Any] = dict(
        title=title, chapters=chapters, analyses=analyses, command=command,
        version=__version__, axes=AXES, left_out=[],
        style=Markup(_read('report.css')), script=Markup(_read('report.js')),
        plots=Markup(json.dumps(rounded(figures)).replace('<', '\\u003c')),
        plotly=compressed_plotly() if figures else '')
    template = _environment().get_template('page.html')
    pictures = [picture for analysis in (*analyses, *(
        one for comparison in comparisons for one in comparison.analyses))
        for picture in analysis.pictures]
    size = len(template.render(content).encode())
    # The names of what is left out, too, take room.
    names = sum(len(str(picture.path)) + 50 for picture in pictures)
    content['left_out'] = [
        str(picture.path) for picture in
        embed(pictures, max(0, LIMIT - size - names))]
    page = template.render(content)
    require(
        len(page.encode()) <= LIMIT,
        f'The report of {title} takes {len(page.encode()) / 1e6:.1f} MB, and '
        f'{LIMIT / 1e6:g} MB is the limit: report fewer trainings at once.')
    return page


def _chapter(comparison: Comparison, place: int,
             figures: dict[str, Any]) -> dict[str, Any]:
    """What the template needs of a comparison; its figures get ids."""
    cases: list[dict[str, Any]] = []
    for case in comparison.cases:
        there = figures_of(comparison, case)
        for section in there.values():
            for figure in section:
                figure['id'] = f'plot-{len(figures)}'
                figures[figure['id']] = dict(
                    figure.pop('data'), kind=figure['kind'], chapter=place)
        cases.append(dict(
            title=case.title, verdict=case.verdict, figures=there,
            accuracy=accuracy_table(comparison, case),
            costs=cost_table(comparison, case),
            methods=methods_table(comparison, case),
            deviations=deviations(case.costs)))
    differ, further, same = settings_tables(comparison)
    return dict(
        place=place, comparison=comparison, cases=cases, differ=differ,
        further=further, same=same,
        curves=any(case['figures']['curves'] for case in cases))


@cache
def compressed_plotly() -> str:
    """plotly.js, gzipped and in base64: two fifths of its size.

    Raises:
        ValueError: If plotly is not installed.
    """
    try:
        folder = files('plotly')
    except ImportError as error:
        raise ValueError('plotly is missing, whose plotly.js the report '
                         'carries: run pip install plotly.') from error
    code = (folder / 'package_data' / 'plotly.min.js').read_bytes()
    return base64.b64encode(gzip.compress(code, 9, mtime=0)).decode()


def inline(text: str) -> Markup:
    """Code and bold of Markdown within a line."""
    safe = str(escape(text))
    safe = re.sub(r'``?([^`]+)``?', r'<code>\1</code>', safe)
    return Markup(re.sub(r'\*\*([^*]+)\*\*', r'<strong>\1</strong>', safe))


def breakable(text: str) -> Markup:
    """A name that may go on in the next line after a dot or a slash."""
    safe = str(escape(text)).replace('\n', ' ')
    return Markup(re.sub(r'([./])(?=[A-Za-z_])', r'\1<wbr>', safe))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(inline=inline, breakable=breakable)
    return environment


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding='utf-8')
