"""The readable page of the API: the same table as its description, rendered for people.

Server-rendered and complete without a script, so that the strictest content policy can hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from typing import Any, Final

from qunxin.errors import ERRORS, ErrorSpec, Tier
from qunxin.gateways.http.openapi import TAGS, error_codes, who_may
from qunxin.gateways.operations import OPERATIONS, Operation, Place
from qunxin.gateways.operations.examples import EXAMPLES
from qunxin.gateways.problems import STATUSES
from qunxin.model import JsonObject

_TIERS: Final = {
    Tier.REQUEST: ("The request", "请求", "Whoever made the request can mend it."),
    Tier.MEMBER: ("A member", "成员", "It is about one person's account or place in the group."),
    Tier.GROUP: ("The group", "群组", "It is about the group itself."),
    Tier.SYSTEM: ("The system", "系统", "Nobody's fault but ours: wait as told, then try again."),
}

_OUTCOMES: Final = (
    (
        "accepted",
        "Accepted",
        "已受理",
        "Durable, with its final position. Everyone entitled will be able to get it.",
    ),
    ("refused", "Refused", "已拒绝", "A code says why, and nobody ever gets it."),
    (
        "unknown",
        "Unknown",
        "结果未知",
        "The connection broke. Repeat with the same key: the first outcome comes back.",
    ),
)

_START: Final = """\
URL=http://127.0.0.1:8000
KEY=qx_…          # qunxin key create server --data FOLDER

curl -X PUT $URL/v1/users/alice -H "Authorization: Bearer $KEY" \\
  -H 'Content-Type: application/json' -d '{"name": "小爱 👩🏽‍🚀"}'
curl -X PUT $URL/v1/users/bob -H "Authorization: Bearer $KEY"
curl -X PUT $URL/v1/groups/tea -H "Authorization: Bearer $KEY" \\
  -H 'Content-Type: application/json' \\
  -d '{"name": "茶友会 🍵", "owner": "alice", "members": ["bob"]}'
curl -X POST $URL/v1/messages -H "Authorization: Bearer $KEY" \\
  -H 'Content-Type: application/json' \\
  -d '{"type": "group", "to": "tea", "from": "alice", "text": "你好 👋🏽", "key": "1"}'"""


def reference_page(description: JsonObject) -> str:
    """The whole page as HTML, for the API that `description` describes."""
    info = description["info"]
    sections = [tag for tag in TAGS if tag != "health"]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(info["title"])} · HTTP API</title>
<link rel="stylesheet" href="/assets/reference.css">
<link rel="icon" href="data:,">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
{_sidebar(sections)}
<main id="main">
{_hero(info)}
{_start()}
{_access()}
{"".join(_section(tag, description) for tag in sections)}
{_health(description)}
{_errors()}
<footer>Qunxin {escape(info["version"])} · Apache-2.0 ·
<a href="/openapi.json">openapi.json</a></footer>
</main>
</body>
</html>
"""


# --- frame ------------------------------------------------------------------------------------


def _sidebar(sections: Iterable[str]) -> str:
    return f"""<aside>
<a class="brand" href="#main"><span class="seal" lang="zh">信</span>
<span>Qunxin <span lang="zh">群信</span></span></a>
<nav aria-label="Contents">
<a class="group" href="#start">Start <span lang="zh">快速开始</span></a>
<a class="group" href="#access-rights">Credentials <span lang="zh">凭证</span></a>
{"".join(_nav_group(tag) for tag in sections)}
<a class="group" href="#health">Health <span lang="zh">健康</span></a>
<a class="group" href="#errors">Errors <span lang="zh">错误</span></a>
</nav>
</aside>"""


def _nav_group(tag: str) -> str:
    english, chinese, _ = TAGS[tag]
    links = "".join(
        f'<li><a href="#{o.name}"><b class="{o.method.lower()}">{o.method}</b>'
        f"{escape(o.name)}</a></li>"
        for o in _tagged(tag)
    )
    return (
        f'<a class="group" href="#{tag}">{english} <span lang="zh">{chinese}</span></a>'
        f"<ul>{links}</ul>"
    )


def _hero(info: JsonObject) -> str:
    cards = "".join(
        f'<li class="{kind}"><h3>{english} <span lang="zh">{chinese}</span></h3><p>{text}</p></li>'
        for kind, english, chinese, text in _OUTCOMES
    )
    return f"""<header class="hero">
<h1>HTTP API <small>{escape(info["version"])}</small></h1>
<p class="lead">{escape(info["summary"])}.
<span lang="zh">每一条消息，都有一个诚实的结果。</span></p>
<ul class="outcomes">{cards}</ul>
</header>"""


def _start() -> str:
    return f"""<section id="start"><h2>Start <span lang="zh">快速开始</span></h2>
<p>Two users, a group, a message: four calls.</p>
{_block(_START)}
<p>Bodies are JSON in UTF-8. Unknown fields are refused, so that a misspelt one is never
passed over. Times are milliseconds since 1970; integers stay below 2<sup>53</sup>. Every name
below is also the name of a realtime <code>rpc</code> call at
<code>/connection/websocket</code>, with the same fields in one object.</p>
</section>"""


def _access() -> str:
    return """<section id="access-rights"><h2>Credentials <span lang="zh">凭证</span></h2>
<div class="scroll"><table>
<thead><tr><th>Sent as</th><th>Who it is</th><th>For</th></tr></thead>
<tbody>
<tr><td><code>Authorization: Bearer qx_…</code></td><td>An API key with scopes. It acts for any
user, named by <code>from</code> (on reads <code>as</code>).</td><td>Your own servers</td></tr>
<tr><td><code>Authorization: Bearer eyJ…</code></td><td>A user's token (JWT). The user acts as
themself.</td><td>People's devices</td></tr>
</tbody></table></div></section>"""


# --- operations -------------------------------------------------------------------------------


def _section(tag: str, description: JsonObject) -> str:
    english, chinese, text = TAGS[tag]
    articles = "".join(_article(operation, description) for operation in _tagged(tag))
    return (
        f'<section id="{tag}"><h2>{english} <span lang="zh">{chinese}</span></h2>'
        f"<p>{escape(text)}</p>{articles}</section>"
    )


def _article(operation: Operation, description: JsonObject) -> str:
    keys, users = who_may(operation)
    method = operation.method
    return f"""<article id="{operation.name}">
<h3><a class="anchor" href="#{operation.name}">{escape(operation.summary)}</a>
<span lang="zh">{escape(operation.chinese)}</span></h3>
<p class="route"><b class="{method.lower()}">{method}</b><code>{_path(operation.path)}</code>
<span class="name">{operation.name}</span></p>
<p>{_prose(operation.description)}</p>
<dl class="who"><dt>API keys</dt><dd>scope {_prose(keys)}</dd>
<dt>Users</dt><dd>{_prose(users)}</dd></dl>
{_fields_table(operation, description)}
{_outcomes_list(operation)}
<details><summary>Example</summary>
{_block(_curl(operation))}
{_block(_pretty(EXAMPLES[operation.name].response))}
</details>
</article>"""


def _fields_table(operation: Operation, description: JsonObject) -> str:
    if not operation.fields:
        return ""
    described = description["paths"][operation.path][operation.method.lower()]
    schemas = {row["name"]: row["schema"] for row in described["parameters"]}
    components = description["components"]["schemas"]
    if operation.has_body:
        schemas.update(components[operation.request.__name__]["properties"])
    rows = "".join(
        f"<tr><td><code>{field.name}</code>{_needed(field.required, schemas[field.name])}</td>"
        f'<td class="place {field.place}">{field.place}</td>'
        f"<td>{escape(_type_text(schemas[field.name], components))}</td>"
        f"<td>{_prose(_description(schemas[field.name]))}</td></tr>"
        for field in sorted(operation.fields, key=lambda field: list(Place).index(field.place))
    )
    return (
        '<div class="scroll"><table class="fields"><thead><tr><th>Field</th><th>In</th>'
        f"<th>Type</th><th>Meaning</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _needed(required: bool, schema: JsonObject) -> str:
    if required or schema.get("enum") == ["private", "group", "broadcast"]:
        return ' <em class="needed">required</em>'
    return ""


def _outcomes_list(operation: Operation) -> str:
    good = "".join(
        f'<li class="ok"><b>{status}</b> {escape(text)}</li>'
        for status, text in operation.statuses.items()
    )
    own = [code for code in error_codes(operation) if code in operation.errors]
    common = [code for code in error_codes(operation) if code not in operation.errors]
    return (
        f'<ul class="answers">{good}</ul>'
        f'<p class="codes">{"".join(map(_code_link, own))}</p>'
        f"<details><summary>Errors of every call</summary>"
        f'<p class="codes">{"".join(map(_code_link, common))}</p></details>'
    )


def _code_link(code: str) -> str:
    return f'<a href="#{code}"><b>{STATUSES[code]}</b> {code}</a> '


def _curl(operation: Operation) -> str:
    """The example's call, as one would type it."""
    request = dict(EXAMPLES[operation.name].request)
    path = re.sub(r"{(\w+)}", lambda match: str(request.pop(match[1])), operation.path)
    query = "" if operation.has_body else "&".join(f"{k}={v}" for k, v in request.items())
    url = f"$URL{path}?{query}" if query else f"$URL{path}"
    method = "" if operation.method == "GET" else f"-X {operation.method} "
    lines = [f"curl {method}'{url}'".replace("'$URL", "$URL'") if query else f"curl {method}{url}"]
    lines.append('-H "Authorization: Bearer $KEY"')
    if operation.has_body:
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d '{json.dumps(request, ensure_ascii=False)}'")
    return " \\\n  ".join(lines)


# --- health and errors ------------------------------------------------------------------------


def _health(description: JsonObject) -> str:
    english, chinese, text = TAGS["health"]
    rows = "".join(
        f'<tr><td><b class="get">GET</b> <code>{escape(path)}</code></td>'
        f"<td>{escape(item['get']['summary'])}</td></tr>"
        for path, item in description["paths"].items()
        if item.get("get", {}).get("tags") == ["health"]
    )
    return (
        f'<section id="health"><h2>{english} <span lang="zh">{chinese}</span></h2>'
        f"<p>{escape(text)}</p>"
        f'<div class="scroll"><table><tbody>{rows}</tbody></table></div></section>'
    )


def _errors() -> str:
    tiers = "".join(_tier(tier) for tier in Tier)
    return f"""<section id="errors"><h2>Errors <span lang="zh">错误</span></h2>
<p>Every refusal is <code>application/problem+json</code> with a stable <code>code</code>, its
<code>tier</code>, whether a retry can help (<code>retryable</code>, <code>retry_after</code>
seconds) and the <code>facts</code> that explain it. <code>detail</code> is in English or Chinese
by <code>Accept-Language</code>.</p>
{tiers}</section>"""


def _tier(tier: Tier) -> str:
    english, chinese, text = _TIERS[tier]
    rows = "".join(_error_row(spec) for spec in ERRORS.values() if spec.tier is tier)
    return (
        f'<h3>{english} <span lang="zh">{chinese}</span></h3><p>{text}</p>'
        '<div class="scroll"><table class="errors"><thead><tr><th>Code</th><th>Status</th>'
        f"<th>Text</th><th>Retry</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _error_row(spec: ErrorSpec) -> str:
    status = STATUSES[spec.code]
    retry = f"after {spec.retry_after:g} s" if spec.retry_after is not None else "no"
    return (
        f'<tr id="{spec.code}"><td><code>{spec.code}</code></td>'
        f'<td><abbr title="{HTTPStatus(status).phrase}">{status}</abbr></td>'
        f'<td>{escape(spec.english)}<br><span lang="zh">{escape(spec.chinese)}</span></td>'
        f"<td>{retry}</td></tr>"
    )


# --- words ------------------------------------------------------------------------------------


def _tagged(tag: str) -> list[Operation]:
    return [operation for operation in OPERATIONS.values() if operation.tag == tag]


def _prose(text: str) -> str:
    """Escaped text with `code` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _path(path: str) -> str:
    return re.sub(r"({\w+})", r"<i>\1</i>", escape(path))


def _block(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text, quote=False)}</code></pre>'


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _description(schema: JsonObject) -> str:
    """A field's own text, or that of what it may be."""
    if "description" in schema:
        return str(schema["description"])
    found = [part["description"] for part in schema.get("anyOf", ()) if "description" in part]
    return str(found[0]) if found else ""


def _type_text(schema: JsonObject, components: JsonObject) -> str:
    """A schema in a few words; that null is the same as left out is not worth saying."""
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "$ref" in schema:
        return _type_text(components[schema["$ref"].rpartition("/")[2]], components)
    if "anyOf" in schema:
        options = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(_type_text(part, components) for part in options)
    kind = schema.get("type", "anything")
    name = kind[0] if isinstance(kind, list) else kind
    if name == "array":
        return f"list of {_array_text(schema, components)}"
    return f"{name}{_bounds(schema)}"


def _array_text(schema: JsonObject, components: JsonObject) -> str:
    items = schema.get("items", {})
    text = "segments" if "discriminator" in items else _type_text(items, components)
    return f"{text}, at most {schema['maxItems']:,}" if "maxItems" in schema else text


def _bounds(schema: JsonObject) -> str:
    low = schema.get("minLength", schema.get("minimum"))
    high = schema.get("maxLength", schema.get("maximum"))
    if low is None and high is None:
        return ""
    if high is None or high >= 2**53 - 1:
        return f", from {low}"
    return f", {low or 0} to {high:,}"
