"""The HTTP gateway: `build_app` makes the application, `HttpSettings` bounds it, and
`http_protocol` gives uvicorn the connection-level limits."""

from qunxin.gateways.http.app import build_app
from qunxin.gateways.http.client_rate import with_client_rate
from qunxin.gateways.http.protocol import http_protocol
from qunxin.gateways.http.settings import HttpSettings
from qunxin.gateways.http.turns import with_turns

__all__ = ["HttpSettings", "build_app", "http_protocol", "with_client_rate", "with_turns"]
