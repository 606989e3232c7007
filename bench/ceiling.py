"""The ceiling: picows alone, with no store, no checks and no index.

Every message received becomes one push line; all lines of one turn of the loop leave as one
frame, encoded once, to every connection. What a real server adds is measured against this.
It speaks just enough of the protocol for `load.py` to drive it like the real server.

    python bench/ceiling.py --port 8001
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Final

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

CHANNEL: Final = "group:bench"


class Connect(msgspec.Struct):
    token: str


class Send(msgspec.Struct):
    text: str
    key: str


class Call(msgspec.Struct):
    method: str
    data: Send


class Command(msgspec.Struct):
    id: int
    connect: Connect | None = None
    rpc: Call | None = None


_decoder = msgspec.json.Decoder(Command)
_encoder = msgspec.json.Encoder()


class Room:
    """Everyone connected, and the lines that leave with the next flush."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.members: dict[WSTransport, str] = {}
        self._loop = loop
        self._lines: list[bytes] = []
        self._position = 0

    def post(self, sender: str, message: Send) -> int:
        """Number the message and have it leave with all others of this turn."""
        if not self._lines:
            self._loop.call_soon(self._flush)
        self._position += 1
        self._lines.append(push_line(self._position, sender, message))
        return self._position

    def _flush(self) -> None:
        frame = b"\n".join(self._lines)
        self._lines.clear()
        for transport in self.members:
            transport.send(WSMsgType.TEXT, frame)


def push_line(position: int, sender: str, message: Send) -> bytes:
    """The same bytes that the real server sends for the same message."""
    entry = {
        "type": "group",
        "conversation": CHANNEL,
        "position": position,
        "from": sender,
        "time": time.time_ns() // 1_000_000,
        "key": message.key,
        "content": [{"type": "text", "text": message.text}],
    }
    publication = {"data": entry, "offset": position}
    return _encoder.encode({"push": {"channel": CHANNEL, "pub": publication}})


class Client(WSListener):
    def __init__(self, room: Room) -> None:
        self._room = room

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            return
        for line in frame.get_payload_as_bytes().split(b"\n"):
            self._handle(transport, _decoder.decode(line))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._room.members.pop(transport, None)

    def _handle(self, transport: WSTransport, command: Command) -> None:
        if command.connect is not None:
            self._room.members[transport] = command.connect.token
            subscription = {"recoverable": True, "positioned": True, "epoch": "e", "offset": 0}
            welcome = {"client": "c", "version": "ceiling", "subs": {CHANNEL: subscription}}
            transport.send(WSMsgType.TEXT, reply(command.id, "connect", welcome))
        elif command.rpc is not None:
            sender = self._room.members[transport]
            position = self._room.post(sender, command.rpc.data)
            receipt = {"data": {"conversation": CHANNEL, "position": position}}
            transport.send(WSMsgType.TEXT, reply(command.id, "rpc", receipt))


def reply(number: int, kind: str, value: object) -> bytes:
    return _encoder.encode({"id": number, kind: value})


async def serve(port: int) -> None:
    room = Room(asyncio.get_running_loop())

    def listener(_request: WSUpgradeRequest) -> Client:
        return Client(room)

    server = await ws_create_server(listener, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
