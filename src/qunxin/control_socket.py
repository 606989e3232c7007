"""The local socket in a data folder, through which its owner speaks to the running server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SOCKET_NAME: Final = "control.sock"


@contextmanager
def short_socket_path(folder: Path) -> Iterator[str]:
    """A path of the folder's socket that fits into a socket address (107 bytes), while open.

    A longer one goes through the folder's descriptor under ``/proc``.
    """
    path = folder.absolute() / SOCKET_NAME
    if len(os.fsencode(path)) <= 100:
        yield str(path)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


@contextmanager
def control_socket(folder: Path) -> Iterator[socket.socket]:
    """The listening end in `folder`, for its owner only; gone at the end.

    Only the process that holds the folder's lock may call this: what it finds there was left
    behind.
    """
    path = folder / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_socket_path(folder) as short:
            listener.bind(short)
        path.chmod(0o600)
        yield listener
    finally:
        listener.close()
        with suppress(FileNotFoundError):
            path.unlink()
