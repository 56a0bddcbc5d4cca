"""The heads of mmdet are what the page says."""

from pathlib import Path

import pytest

from . import sweep

PAGE = Path(__file__).parents[2] / 'docs' / 'heads.md'


@pytest.mark.slow
def test_heads_are_what_the_page_says():
    """That images' losses are right is checked while they are tried."""
    page = PAGE.read_text()
    version = pytest.importorskip('mmdet').__version__
    if f'with mmdet {version}.' not in page:
        pytest.skip('the page is of another release of mmdet')
    assert sweep.with_section(page, sweep.section()) == page
