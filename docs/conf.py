"""Sphinx's settings: `make docs` builds the site into build/site.

The source folder is the repository, so that a relative link means the same
on the site as in the repository.
"""

import sys
from pathlib import Path

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
