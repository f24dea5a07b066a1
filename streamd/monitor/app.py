"""The monitoring endpoints as a small ASGI application: `/`, `/varz`, `/healthz`.

It asks a `Statistics` for what to show and knows nothing of the server behind it. Not here: sockets
(serve.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from html import escape
from typing import Any, Final, Protocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Statistics(Protocol):
    """What a server tells about itself. Each call is short and runs in the server's own loop."""

    def varz(self) -> Mapping[str, object]:
        """The fields of /varz; only those that have a real value."""

    def healthz(self) -> str | None:
        """None if the server is well, or what is wrong."""


_JSON: Final = b"application/json"
_TEXT: Final = b"text/plain; charset=utf-8"
_HTML: Final = b"text/html; charset=utf-8"
_PATHS: Final = ("/", "/healthz", "/varz")


class MonitorApp:
    """The ASGI application. Errors: an exception of the Statistics passes through and becomes a 500."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        # Only paths that exist are counted: a client must not be able to grow this.
        self._requests: Counter[str] = Counter(dict.fromkeys(_PATHS, 0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, kind, body = self._answer(scope["method"], scope["path"])
        headers = [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"access-control-allow-origin", b"*"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, method: str, path: str) -> tuple[int, bytes, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, _TEXT, b"method not allowed\n"
        if path not in self._requests:
            return 404, _TEXT, b"404 page not found\n"
        self._requests[path] += 1
        if path == "/varz":
            return 200, _JSON, _json({**self._statistics.varz(), "http_req_stats": dict(self._requests)})
        if path == "/healthz":
            if (problem := self._statistics.healthz()) is None:
                return 200, _JSON, b'{"status":"ok"}'
            return 503, _JSON, _json({"status": "unavailable", "error": problem})
        return 200, _HTML, _index()


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "replace")


def _index() -> bytes:
    links = "\n".join(f'<li><a href=".{escape(path)}">{escape(path[1:])}</a></li>' for path in _PATHS[1:])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>streamd</title></head>\n'
        f"<body><h1>streamd</h1>\n<ul>\n{links}\n</ul></body></html>\n"
    ).encode()
