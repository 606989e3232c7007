"""The reference is what the code says: pages are made again and compared, row by row too."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from qunxin.config import setting_rows
from qunxin.engine.access import RULES
from qunxin.errors import ERRORS
from qunxin.gateways.operations import OPERATIONS
from qunxin.ops.metrics import METRICS
from qunxin.wire.codes import DISCONNECTS

DOCS = Path(__file__).parents[2] / "docs"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _load()

ROWS = {
    "errors.md": list(ERRORS),
    "access.md": list(RULES),
    "settings.md": [row.name for row in setting_rows()],
    "metrics.md": [row.name for row in METRICS],
    "operations.md": list(OPERATIONS),
}


def _committed(page: str) -> str:
    path = DOCS / "reference" / page
    return path.read_text("utf-8") if path.exists() else ""


@pytest.mark.parametrize("page", [*GENERATE.PAGES, *GENERATE.FILES])
def test_the_committed_page_is_what_the_code_makes(page: str) -> None:
    """Mended by ``python docs/generate.py``."""
    assert _committed(page) == GENERATE.render(page)


@pytest.mark.parametrize(
    ("page", "name"), [(page, name) for page, names in ROWS.items() for name in names]
)
def test_every_row_of_a_table_is_documented(page: str, name: str) -> None:
    """An error, rule, setting, metric or operation without a line of reference is not there."""
    assert f"`{name}`" in _committed(page)


def test_every_close_code_is_documented() -> None:
    """Whoever is disconnected can look up why."""
    page = _committed("realtime-codes.md")
    assert all(f"| {one.code} | {one.reason} |" in page for one in DISCONNECTS)


def test_no_page_of_reference_is_left_over() -> None:
    """A page whose table is gone goes too."""
    assert {path.name for path in (DOCS / "reference").glob("*.md")} == set(GENERATE.PAGES)
