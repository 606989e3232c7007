"""The documentation as a site: `.ci/site FOLDER`.

The pages are plain Markdown that reads as well where the repository is shown. The source folder is
the repository, so that links between pages are the same in both places.
"""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any, Final

project = "Qunxin 群信"
author = "the Qunxin maintainers"
version = release = installed_version("qunxin")
language = "en"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "docs/README"
include_patterns = ["*.md", "docs/**.md", "bench/*.md", "examples/*.md"]

myst_heading_anchors = 4
myst_links_external_new_tab = True

html_theme = "furo"
html_title = f"Qunxin 群信 {release}"
html_show_copyright = False
html_copy_source = False

_CONTENTS: Final = """

```{toctree}
:hidden:
:caption: Start

quickstart
concepts
promises
glossary
```

```{toctree}
:hidden:
:glob:
:caption: How to

how-to/*
```

```{toctree}
:hidden:
:glob:
:caption: Reference

reference/*
```

```{toctree}
:hidden:
:glob:
:caption: The project

../README
../README.zh
../examples/README
../bench/README
../ARCHITECTURE
../CONTRIBUTING
../SECURITY
../CHANGELOG
decisions/README
decisions/0*
```
"""


def _add_contents(_app: Any, page: str, source: list[str]) -> None:
    """The site's table of contents, which would show as code where the repository is shown."""
    if page == root_doc:
        source[0] += _CONTENTS


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_contents)
