"""The engine: message types, routing, membership, commit and fan-out, without a transport."""

from qunxin.engine.engine import Engine
from qunxin.engine.settings import EngineSettings

__all__ = ["Engine", "EngineSettings"]
