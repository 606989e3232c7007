"""Qunxin 群信: group messaging that tells the truth about every message."""
