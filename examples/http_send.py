"""A send that is safe to repeat, over HTTP, with what any program needs and nothing else.

    export QUNXIN_KEY=$(uv run qunxin key create example)
    uv run python examples/http_send.py alice tea "你好，大家"

Makes what is missing (user, group), sends, and repeats with the same key for as long as the
outcome is not known. Prints the receipt.
"""

import json
import os
import sys
import time
import uuid
from http import HTTPStatus
from typing import Any

import httpx

URL = os.environ.get("QUNXIN_URL", "http://127.0.0.1:8000")
KEY = os.environ["QUNXIN_KEY"]
ATTEMPTS = 10


def decoded(response: httpx.Response) -> dict[str, Any]:
    """The answer's object; empty where it has none, as a page of a proxy's own."""
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def send_message(api: httpx.Client, message: dict[str, Any]) -> dict[str, Any]:
    """The receipt of `message`, which has a key. Raises where it is refused for good."""
    pause = 0.5
    for _ in range(ATTEMPTS):
        try:
            response = api.post("/v1/messages", json=message)
        except httpx.TransportError:
            pass  # the outcome is unknown: the same key finds out
        else:
            answer = decoded(response)
            if response.is_success and answer:
                return answer
            # 502 or 504 by a proxy in between says nothing of the outcome: the same key again
            if not answer.get("retryable", response.is_server_error):
                code, detail = answer.get("code"), answer.get("detail", response.text)
                raise RuntimeError(f"{response.status_code} {code}: {detail}")
            pause = answer.get("retry_after") or pause
        time.sleep(pause)
    raise RuntimeError("the outcome is still not known")


def main(sender: str, group: str, text: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Accept-Language": "zh"}
    with httpx.Client(base_url=URL, headers=headers) as api:
        api.put(f"/v1/users/{sender}", json={}).raise_for_status()
        if api.get(f"/v1/groups/{group}").status_code == HTTPStatus.NOT_FOUND:
            api.put(f"/v1/groups/{group}", json={"owner": sender}).raise_for_status()
        message = {"type": "group", "to": group, "from": sender, "text": text}
        receipt = send_message(api, {**message, "key": str(uuid.uuid4())})
        print(json.dumps(receipt, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
