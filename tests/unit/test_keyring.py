"""The signing keys' file: made once, for its owner only, refused when others could read it."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from qunxin.errors import QunxinError
from qunxin.gateways.keyring import (
    FILE_NAME,
    SECRET_BYTES,
    TokenKeys,
    new_key,
    open_keys,
    save_keys,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "数据 🔐" / "node"


def _refusal(folder: Path) -> str:
    with pytest.raises(QunxinError) as refused:
        open_keys(folder)
    return refused.value.code


def test_keys_are_made_once(folder: Path) -> None:
    """Fresh and random at the first start, the same ever after."""
    keys = open_keys(folder)
    assert open_keys(folder) == keys
    assert open_keys(folder.with_name("other")).signing.secret != keys.signing.secret
    assert len(keys.signing.secret) == SECRET_BYTES
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_only_the_owner_may_read(folder: Path) -> None:
    """0600 in 0700."""
    open_keys(folder)
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_a_file_open_to_others_is_refused(folder: Path, mode: int) -> None:
    """Whatever others could do with it."""
    open_keys(folder)
    (folder / FILE_NAME).chmod(mode)
    assert _refusal(folder) == "forbidden"


def test_a_folder_that_others_may_write_is_refused(folder: Path) -> None:
    """They could put a file of their own there."""
    open_keys(folder)
    folder.chmod(0o770)
    assert _refusal(folder) == "forbidden"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        "密钥".encode(),
        b"\xff",
        b'{"active": "a", "keys": []}',
        b'{"active":"a","keys":[{"id":"a","algorithm":"HS256","secret":"c2hvcnQ="}]}',
        b'{"active":"a","keys":[{"id":"a","algorithm":"none","secret":"' + b"A" * 44 + b'"}]}',
        b'{"active":"b","keys":[{"id":"a","algorithm":"HS256","secret":"' + b"A" * 44 + b'"}]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_refused(folder: Path, text: bytes) -> None:
    """Never replaced by a fresh one: that would end every token without a word."""
    open_keys(folder)
    (folder / FILE_NAME).write_bytes(text)
    assert _refusal(folder) == "invalid_request"
    assert (folder / FILE_NAME).read_bytes() == text


def test_two_keys_of_one_id_are_refused(folder: Path) -> None:
    """Which of them signed could not be told."""
    key = new_key()
    open_keys(folder)
    save_keys(folder, TokenKeys(active=key.id, keys=(key, msgspec.structs.replace(key))))
    assert _refusal(folder) == "invalid_request"


def test_a_rotation_is_kept(folder: Path) -> None:
    """The new key signs, the old one is still there; the active one cannot be dropped."""
    keys = open_keys(folder)
    save_keys(folder, keys.rotated())
    rotated = open_keys(folder)
    assert rotated.find(keys.active) == keys.signing
    assert rotated.signing != keys.signing
    assert rotated.without(rotated.active) == rotated
    assert rotated.without(keys.active).keys == (rotated.signing,)
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600


def test_processes_that_start_together_agree(folder: Path) -> None:
    """The first one wins, and the others read what it made."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: open_keys(folder).active, range(32)))
    assert len(found) == 1
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_a_link_in_place_of_the_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """It could lead to a file that somebody else chose."""
    elsewhere = tmp_path / "elsewhere"
    open_keys(elsewhere)
    folder.mkdir(parents=True, mode=0o700)
    (folder / FILE_NAME).symlink_to(elsewhere / FILE_NAME)
    assert _refusal(folder) == "forbidden"


def test_secrets_do_not_show_in_a_repr(folder: Path) -> None:
    """They would end in logs."""
    keys = open_keys(folder)
    assert repr(keys.signing.secret) not in repr(keys)
