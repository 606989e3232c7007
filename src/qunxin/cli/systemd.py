"""``qunxin systemd``: a unit that runs the node as a service."""

from __future__ import annotations

import pwd
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from cyclopts import App

from qunxin.cli.common import Common
from qunxin.cli.exits import errors_shown
from qunxin.config import Settings
from qunxin.errors import QunxinError
from qunxin.server import OTHER_FILES

app = App(name="systemd")

_STATE_FOLDER: Final = Path("/var/lib")
_UNIT: Final = """\
# Made by `qunxin systemd`. Settings belong into {data}/qunxin.toml.
[Unit]
Description=Qunxin group messaging
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={command}
{reload}User={user}
{folder}
UMask=0077
Restart=always
RestartSec=1
TimeoutStartSec=300
TimeoutStopSec={stop_seconds}
KillMode=mixed
LimitNOFILE={open_files}

# It needs the network, its folder, and nothing else.
CapabilityBoundingSet=
LockPersonality=true
NoNewPrivileges=true
PrivateDevices=true
PrivateTmp=true
ProtectClock=true
ProtectControlGroups=true
ProtectHome={home}
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged

[Install]
WantedBy=multi-user.target
"""

_RELOAD: Final = "ExecReload=/bin/kill -HUP $MAINPID\n"
"""For the certificate; without one there is nothing to read anew, and the signal ends a node."""


@app.default
def systemd(*, user: str = "qunxin", common: Common | None = None) -> None:
    """Print a systemd unit that runs this installation on a data folder, shut in as far as it
    will go.

    The limits in it follow the settings of that folder: print it again when they change.

    For example:

        qunxin systemd --data /var/lib/qunxin | sudo tee /etc/systemd/system/qunxin.service
        sudo systemctl daemon-reload
        sudo systemctl enable --now qunxin

    Parameters
    ----------
    user
        The system's user that the node runs as. It must be there, and not be root.
    """
    common = common or Common()
    with errors_shown(common.output) as output:
        _check_not_root(user)
        settings = common.settings()
        unit = make_unit(settings, user, common.config)
        output.result({"unit": unit}, *unit.splitlines())


def _check_not_root(user: str) -> None:
    """By whatever name root has on this machine; to systemd no name is root too."""
    roots = {"", "0", *(one.pw_name for one in pwd.getpwall() if one.pw_uid == 0)}
    if user in roots:
        detail = "--user: the node must not run as root; name another user of the system"
        raise QunxinError("invalid_request", detail=detail)


def make_unit(settings: Settings, user: str, config: Path | None) -> str:
    """The unit's text."""
    folder = settings.data_folder.absolute()
    command = [*_program(), "serve", "--data", str(folder)]
    if config is not None:
        command += ["--config", str(config.absolute())]
    return _UNIT.format(
        data=folder,
        command=" ".join(_quote(part) for part in command),
        reload=_RELOAD if settings.tls_certificate else "",
        user=user,
        folder=_folder_lines(folder),
        stop_seconds=int(settings.shutdown_timeout_seconds) + 5,
        open_files=settings.max_connections + OTHER_FILES,
        home="read-only" if _in_a_home(folder, Path(command[0])) else "true",
    )


def _program() -> list[str]:
    found = shutil.which("qunxin", path=str(Path(sys.executable).parent))
    return [found] if found else [sys.executable, "-m", "qunxin"]


def _in_a_home(*paths: Path) -> bool:
    return any(path.is_relative_to(home) for path in paths for home in ("/home", "/root"))


def _folder_lines(folder: Path) -> str:
    """A folder below /var/lib is made by systemd; any other must be there."""
    if folder.parent == _STATE_FOLDER:
        return f"StateDirectory={folder.name}\nStateDirectoryMode=0700"
    return f"ReadWritePaths={_quote(str(folder))}"


def _quote(part: str) -> str:
    """As systemd reads it: a percent sign is doubled, what a shell would quote is quoted."""
    return shlex.quote(part).replace("%", "%%")
