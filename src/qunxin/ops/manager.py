"""The service manager: systemd is told when a node is ready and when it begins to stop."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

_log = logging.getLogger("qunxin.ops")


def tell_manager(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send `state` (``READY=1``, ``STOPPING=1``) to the manager that started this process, where
    one did and wants to know (sd_notify(3)). A manager that does not listen changes nothing."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address)
            channel.sendall(state.encode())
    except OSError as error:
        _log.warning("the service manager could not be told %s: %s", state, error)
