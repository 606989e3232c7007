"""Replays of real group chats against a server, judged from the outside.

A replay is a client of the public interfaces alone: it reads logs, plays them through HTTP and
real WebSocket connections, and compares what every participant received with what the log
entitles them to. It never asks the server what is right.
"""

from qunxin.replay.options import ReplayOptions, parse_speed
from qunxin.replay.report import ReplayOutcome, ReplayReport, print_outcome, shown_progress
from qunxin.replay.run import run_replay

__all__ = [
    "ReplayOptions",
    "ReplayOutcome",
    "ReplayReport",
    "parse_speed",
    "print_outcome",
    "run_replay",
    "shown_progress",
]
