"""Replays of real group chats against a server, judged from the outside.

A replay is a client of the public interfaces alone: it reads logs, plays them through HTTP and
real WebSocket connections, and compares what every participant received with what the log
entitles them to. It never asks the server what is right.
"""
