"""Replays on a server that is not the replay's own: what is wrong is said, soon, in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from qunxin.errors import QunxinError
from qunxin.replay import ReplayOptions, run_replay
from qunxin.replay.client import Refused
from qunxin.wire.codes import ERROR_NUMBERS
from qunxin.wire.device import Fault
from serving import ServerProcess, run_cli

SAMPLE = Path(__file__).parents[1] / "data" / "irc" / "茶馆.txt"
BASE = ReplayOptions(files=(SAMPLE,), key="qx_none", first_answer_seconds=0.5)
PAGE = "<html>没有这个页面</html>".encode()


@asynccontextmanager
async def listening(answer: bytes | None) -> AsyncIterator[str]:
    """A server that answers whatever it is asked with these bytes; with None it never does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            if answer is not None:
                writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def refusal(options: ReplayOptions) -> QunxinError:
    with pytest.raises(QunxinError) as caught:
        await run_replay(options)
    return caught.value


async def test_a_server_that_is_not_there_is_said() -> None:
    """With the reason why no connection came about."""
    async with listening(None) as url:
        pass
    error = await refusal(replace(BASE, url=url))
    assert error.code == "cannot_start"
    assert "no answer within 0.5 seconds (" in error.text()


async def test_a_server_that_never_answers_is_given_up() -> None:
    async with listening(None) as url:
        error = await refusal(replace(BASE, url=url))
    assert error.code == "cannot_start"
    assert error.text().endswith("no answer within 0.5 seconds")


async def test_another_kind_of_server_is_said() -> None:
    """With what it answered."""
    head = f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(PAGE)}\r\n\r\n".encode()
    async with listening(head + PAGE) as url:
        error = await refusal(replace(BASE, url=url))
    assert error.code == "cannot_start"
    assert f"404 {PAGE.decode()}" in error.text()


def test_a_wrong_key_is_said_in_words(shared_server: ServerProcess) -> None:
    """By the command too, and no traceback."""
    done = run_cli("replay", str(SAMPLE), "--url", shared_server.url, "--key", "qx_wrong")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No valid credentials" in done.stderr


async def test_a_key_that_may_too_little_is_said(shared_server: ServerProcess) -> None:
    """Accounts and groups are made, and then no device gets a token: not waited for for ever."""
    made = await asyncio.to_thread(
        run_cli,
        *("key", "create", "少", "--scope", "users", "--scope", "groups"),
        *("--data", str(shared_server.data_folder), "--json"),
    )
    key = made.stdout.partition('"key":"')[2].partition('"')[0]
    error = await refusal(replace(BASE, url=shared_server.url, key=key, first_answer_seconds=20.0))
    assert error.code == "forbidden"
    assert error.text().count("Not allowed") == 1


def test_what_a_device_is_refused_with_is_the_error_of_that_code() -> None:
    """In the server's words; the code of a disconnect is no error's."""
    refused = Refused(Fault(ERROR_NUMBERS["forbidden"], "Not allowed: 不可以"))
    assert refused.as_error() == QunxinError("forbidden", detail="不可以")
    away = Refused(Fault(4511, "茶")).as_error()
    assert (away.code, "4511 茶" in away.text()) == ("cannot_start", True)


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8000", "ftp://127.0.0.1", "ws://127.0.0.1:8000", "http://", "https://:8000"),
        *(
            "http://127.0.0.1:80000",
            "http://127.0.0.1:端口",
            "http://[::1",
            "http://茶.example",
            "",
        ),
    ],
)
async def test_what_is_no_address_is_refused(url: str) -> None:
    error = await refusal(replace(BASE, url=url))
    assert error.code == "invalid_request"
    assert "url is an address" in error.text()


@pytest.mark.parametrize("key", ["", "钥匙", "qx_a\r\nX-Other: 1", "qx_a b"])
async def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    """It would end up in a header."""
    error = await refusal(replace(BASE, url="http://127.0.0.1:8000", key=key))
    assert error.code == "invalid_request"
