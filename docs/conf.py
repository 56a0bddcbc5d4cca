"""Sphinx's settings: `make docs` builds the site into build/site.

The source folder is the repository, so that a relative link means the same
on the site as in the repository.
"""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ausam_mm.version import __version__  # noqa: E402

project = 'ausam_mm'
author = copyright = 'The ausam_mm authors'
release = version = __version__

extensions = [
    'myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon',
    'sphinx.ext.viewcode', 'sphinx_copybutton', 'sphinx_design'
]
root_doc = 'docs/index'
include_patterns = [
    'docs/**', 'configs/**/README.md', 'benchmarks/README.md',
    'CHANGELOG.md', 'CONTRIBUTING.md'
]

# Quotes are often those of options.
smartquotes = False

html_theme = 'furo'
html_title = 'ausam_mm'
# The address of the site leads to its front page.
html_extra_path = ['_front']

myst_enable_extensions = ['colon_fence', 'dollarmath']
myst_heading_anchors = 4

# The notebooks run whenever they are built.
nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
napoleon_numpy_docstring = False


def find_anywhere(app: Any, what: str, name: str, obj: Any, options: Any,
                  lines: list[str]) -> None:
    """Makes :class:`Name` of a docstring mean one of any module."""
    lines[:] = [re.sub(r':(class|func):`(?=\w)', r':\1:`.', line)
                for line in lines]


def skip_what_methods_override(app: Any, what: str, name: str, obj: Any,
                               skip: bool, options: Any) -> bool | None:
    """Leaves a method's hooks out: TwoPassOptimWrapper's say what they are."""
    module = getattr(obj, '__module__', None) or ''
    hook = callable(obj) and not isinstance(obj, type)
    return True if hook and module.startswith('ausam_mm.methods.') else None


def setup(app: Any) -> None:
    # Before napoleon's, which is at 500.
    app.connect('autodoc-process-docstring', find_anywhere, priority=400)
    app.connect('autodoc-skip-member', skip_what_methods_override)
