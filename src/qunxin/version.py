"""Which version this is. Written here and not asked of the installed package: every command would
load what reads packages. A test holds it to what `pyproject.toml` says."""

from typing import Final

VERSION: Final = "0.1.0"
