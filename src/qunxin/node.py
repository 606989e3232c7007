"""One node without its sockets: the engine over its folder, and what goes with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from qunxin.brokers.local import LocalBroker
from qunxin.config import Settings
from qunxin.engine import Engine, EngineSettings
from qunxin.errors import QunxinError
from qunxin.folder import DATABASE_NAME, owned_folder, prepare_folder
from qunxin.gateways.auth import Authenticator
from qunxin.gateways.keyring import KeyRotation
from qunxin.gateways.sign_in import SignIn, SignInLinks, session_audience
from qunxin.observe import Tracer
from qunxin.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from qunxin.gateways.jwks import KeySet  # with a library that few nodes need
    from qunxin.ops.metrics import Metrics  # with one that only a server needs

_A = TypeVar("_A", bound=Authenticator)


class Node(msgspec.Struct, frozen=True):
    """The parts that every door of a node shares."""

    settings: Settings
    folder: Path
    engine: Engine
    token_keys: KeyRotation
    links: SignInLinks

    @property
    def database(self) -> Path:
        return self.folder / DATABASE_NAME

    def authenticator(self, kind: type[_A], others: KeySet | None = None) -> _A:
        """One that signs and verifies with the folder's keys, whatever becomes of them."""
        made = kind(
            self.engine,
            self.token_keys.current,
            audience=self.settings.token_audience,
            token_ttl_seconds=self.settings.token_ttl_seconds,
            others=others,
            others_issuer=self.settings.jwks_issuer,
        )
        self.token_keys.follow(made.use_keys)
        return made

    def sign_in(self, tokens: Authenticator) -> SignIn:
        """The page's door, which gives out `tokens` to browsers that are signed in."""
        audience = session_audience(self.settings.token_audience)
        sessions = Authenticator(self.engine, self.token_keys.current, audience=audience)
        self.token_keys.follow(sessions.use_keys)
        return SignIn(self.engine, self.links, tokens, sessions)


@asynccontextmanager
async def open_node(
    settings: Settings, tracer: Tracer | None = None, metrics: Metrics | None = None
) -> AsyncIterator[Node]:
    """An open node over the data folder of `settings`, which is made where it is missing.
    `tracer` follows single operations; `metrics` are counted.

    Raises `cannot_start` where another process owns the folder (fact `in_use`), where it cannot
    be used; `forbidden` where others could read its secrets; `store_unavailable` where the database
    does not open. At the end every accepted command has been
    answered and the folder is free.
    """
    folder = settings.data_folder.absolute()
    prepare_folder(folder)
    with owned_folder(folder):
        engine = Engine(
            SqliteStore(folder / DATABASE_NAME),
            LocalBroker(),
            settings=settings.part(EngineSettings),
            observer=metrics,
            tracer=tracer,
        )
        token_keys = KeyRotation(folder)
        if metrics is not None:
            _watch(metrics, engine, folder / DATABASE_NAME)
        async with engine:
            yield Node(settings, folder, engine, token_keys, SignInLinks())


def _watch(metrics: Metrics, engine: Engine, database: Path) -> None:
    log = database.with_name(f"{database.name}-wal")
    metrics.watch("qunxin_commit_queue_commands", lambda: engine.committer.queued_commands)
    metrics.watch("qunxin_commit_queue_bytes", lambda: engine.committer.queued_bytes)
    metrics.watch("qunxin_store_file_bytes", lambda: _size(database))
    metrics.watch("qunxin_store_log_bytes", lambda: _size(log))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def try_node(
    settings: Settings,
    stack: AsyncExitStack,
    *,
    patient: bool,
    tracer: Tracer | None = None,
    metrics: Metrics | None = None,
) -> Node | None:
    """As `open_node`, for as long as `stack`; where another process owns the folder, None to one
    who is `patient`."""
    try:
        return await stack.enter_async_context(open_node(settings, tracer, metrics))
    except QunxinError as error:
        if patient and error.facts.get("in_use"):
            return None
        raise
