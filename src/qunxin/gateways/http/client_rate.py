"""How many requests one address may make, in front of everything else that answers HTTP."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from qunxin.errors import QunxinError, best_language
from qunxin.gateways.client_limits import ClientLimits
from qunxin.gateways.problems import problem_response


def with_client_rate(app: ASGIApp, limits: ClientLimits) -> ASGIApp:
    """`app`, with a problem document (429) for a client that asks too often."""

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = _headers(scope)
            peer = None if scope["client"] is None else scope["client"][0]
            try:
                limits.check_request(limits.client(peer, headers))
            except QunxinError as error:
                await _refuse(error, best_language(headers.get("accept-language", "")), send)
                return
        await app(scope, receive, send)

    return limited


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = name.decode("latin-1")
        found = value.decode("latin-1")
        headers[text] = f"{headers[text]},{found}" if text in headers else found
    return headers


async def _refuse(error: QunxinError, language: str, send: Send) -> None:
    status, headers, body = problem_response(error, language)
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
