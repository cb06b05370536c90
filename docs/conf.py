"""How Sphinx builds this folder: ``python3 dev.py docs``. The pages are Markdown, the reference is made
from the docstrings."""

from __future__ import annotations

import whisperr

project = "whisperr"
author = "The whisperr authors"
project_copyright = author
version = release = whisperr.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}

# The pages are read on code hosts, too: headings get the anchors that those give them.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a field of a dataclass is described once, in the docstring of its class

html_theme = "furo"
html_title = f"whisperr {release}"
html_copy_source = False
html_show_copyright = False
