"""The HTTP gateway: `build_app` makes the application, `HttpSettings` bounds it. The limits of
connections, for uvicorn, are in `protocol`: a command that asks the application itself has no use
for a server."""

from qunxin.gateways.http.app import build_app
from qunxin.gateways.http.client_rate import with_client_rate
from qunxin.gateways.http.settings import HttpSettings
from qunxin.gateways.http.turns import with_turns

__all__ = ["HttpSettings", "build_app", "with_client_rate", "with_turns"]
