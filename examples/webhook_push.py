"""A receiver of webhooks: says whose phones it would wake. Needs `standardwebhooks`.

qunxin serve --webhook-networks 127.0.0.0/8
SECRET=$(qunxin webhook create http://127.0.0.1:8090/)
SECRET=$SECRET python examples/webhook_push.py
"""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

VERIFIER = Webhook(os.environ["SECRET"])
PORT = int(os.environ.get("PORT", "8090"))
SEEN: set[str] = set()  # a real one keeps them in its database


def push(data: dict[str, Any]) -> None:
    """What would wake the phones."""
    entry = data["entry"]
    if "offline" in data:
        text = "".join(part.get("text", "") for part in entry["content"])
        print(f"push to {', '.join(data['offline']['users'])}: {text}", flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            VERIFIER.verify(body, dict(self.headers))
        except WebhookVerificationError:
            return self.answer(401)
        identity = self.headers["webhook-id"]
        if identity not in SEEN:  # each event comes at least once
            push(json.loads(body)["data"])
            SEEN.add(identity)
        return self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", PORT), Receiver) as server:
        server.serve_forever()
