"""The keys that sign our own tokens take turns, beside a running server and without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from serving import ServerProcess, run_cli


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run_cli("token", *arguments, "--data", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def key_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def status(server: ServerProcess, token: str) -> int:
    with server.client(token) as client:
        return client.get("/v1/users/alice").status_code


@pytest.mark.processes
def test_a_rotation_beside_a_running_server(server: ServerProcess) -> None:
    """The server signs with the new key at once; tokens of the old one are good until it is
    retired, and over a restart everything is as it was."""
    with server.client() as client:
        client.put("/v1/users/alice", json={"name": "爱丽丝 👩🏽‍🚀"})
    old = server.token("alice")
    rotated = run(server.data_folder, "rotate")
    new = server.token("alice")
    assert [key["active"] for key in rotated["keys"]] == [False, True]
    assert [key["id"] for key in rotated["keys"]] == [key_of(old), key_of(new)]
    assert "secret" not in json.dumps(rotated)
    assert (status(server, old), status(server, new)) == (200, 200)
    run(server.data_folder, "retire", key_of(old))
    assert (status(server, old), status(server, new)) == (401, 200)
    server.stop()
    server.start()
    assert (status(server, old), status(server, new)) == (401, 200)


@pytest.mark.processes
def test_a_rotation_without_a_server(data_folder: Path) -> None:
    """The command opens the folder by itself. The key that signs, and one that is not there,
    cannot be retired."""
    made = run_cli("user", "create", "alice", "--data", str(data_folder))
    assert made.returncode == 0, made.stderr
    (first,) = run(data_folder, "keys")["keys"]
    run(data_folder, "rotate")
    keys = run(data_folder, "keys")["keys"]
    assert [key["active"] for key in keys] == [False, True]
    for wrong, code in ((keys[1]["id"], "invalid_request"), ("没有", "not_found")):
        done = run_cli("token", "retire", wrong, "--data", str(data_folder), "--json")
        assert done.returncode != 0
        assert f'"code":"{code}"' in done.stderr
    left = run(data_folder, "retire", first["id"])["keys"]
    assert [key["id"] for key in left] == [keys[1]["id"]]
