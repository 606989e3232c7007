"""The module for browsers, `/qunxin.js`, in Node, at the other end of written-down servers: what no
real one can be made to do at the right moment."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sdk_devices import JAVASCRIPT


@pytest.mark.browser
def test_the_module_keeps_its_promises_at_the_worst_moments() -> None:
    """All of `tests/javascript/module.test.mjs`."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    script = JAVASCRIPT / "module.test.mjs"
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests 0" not in done.stdout
