"""The engine: every operation of Qunxin, without a transport.

`qunxin.open` gives one over SQLite; a server gives one to its gateways. All methods are
coroutines of one event loop and may be called side by side. Operations raise `QunxinError` and
nothing else for what can be foreseen.
"""
