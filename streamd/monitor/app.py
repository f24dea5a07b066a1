"""The monitoring endpoints as a small ASGI application: `/`, `/healthz`, `/jsz`, `/metrics`, `/routez`, `/varz`, streaming.

It asks a `Statistics` for what to show and knows nothing of the server behind it. Not here: sockets (serve.py), the pages of
NATS Streaming (streaming.py), Prometheus (metrics.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from html import escape
from typing import TYPE_CHECKING, Any, Final, Protocol

from streamd.api.system import HealthzOptions, JszOptions
from streamd.monitor import streaming as pages
from streamd.monitor.answers import HTML, JSON, Answer, json_bytes, text
from streamd.monitor.query import BadQuery, Query

if TYPE_CHECKING:
    from streamd.api.system import Health, JetStreamInfo
    from streamd.stan.views import StreamingStatistics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Statistics(Protocol):
    """What a server tells about itself. Each call is short and runs in the server's own loop."""

    def varz(self) -> Mapping[str, object]:
        """The fields of /varz; only those that have a real value."""

    def routez(self) -> Mapping[str, object]:
        """The page of /routez."""

    def healthz(self, options: HealthzOptions) -> Health:
        """Whether the server is well."""

    async def jsz(self, options: JszOptions) -> JetStreamInfo | None:
        """What JetStream holds; None if only the leader was asked and another server leads."""


_PATHS: Final = ("/", "/healthz", "/jsz", "/metrics", "/routez", "/varz")


class MonitorApp:
    """The ASGI application. Errors: an exception of the Statistics passes through and becomes a 500.

    Shapes:  without `streaming` the paths under /streaming aren't there, and /metrics has nothing of it.
    """

    def __init__(self, statistics: Statistics, streaming: StreamingStatistics | None = None) -> None:
        self._statistics = statistics
        self._streaming = streaming
        paths = _PATHS if streaming is None else (*_PATHS, *pages.PATHS)
        # Only paths that exist are counted: a client must not be able to grow this.
        self._requests: Counter[str] = Counter(dict.fromkeys(paths, 0))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = await self._answer(scope)
        headers = [(b"access-control-allow-origin", b"*")]
        if answer.kind:
            headers.append((b"content-type", answer.kind.encode()))
        if answer.status != 204:
            headers.append((b"content-length", str(len(answer.body)).encode()))
        headers += [(name.encode(), value.encode()) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _answer(self, scope: Scope) -> Answer:
        path: str = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return text(405, "method not allowed")
        if path not in self._requests:
            return text(404, "404 page not found")
        self._requests[path] += 1
        if self._streaming is not None and path in pages.PATHS:
            return await pages.answer(self._streaming, path, scope["query_string"])
        if path == "/metrics":
            return await self._metrics(scope)
        if path == "/varz":
            return Answer(200, JSON, json_bytes({**self._statistics.varz(), "http_req_stats": dict(self._requests)}))
        if path == "/routez":
            return Answer(200, JSON, json_bytes(self._statistics.routez()))
        try:
            query = Query(scope["query_string"])
            if path == "/jsz":
                return await self._jsz(query)
            if path == "/healthz":
                return self._healthz(query)
        except BadQuery as error:
            return text(400, str(error))
        return Answer(200, HTML, self._index())

    def _healthz(self, query: Query) -> Answer:
        options = HealthzOptions(
            js_enabled=query.flag("js-enabled"),
            js_enabled_only=query.flag("js-enabled-only"),
            js_server_only=query.flag("js-server-only"),
            js_meta_only=query.flag("js-meta-only"),
            account=query.text("account"),
            stream=query.text("stream"),
            consumer=query.text("consumer"),
            details=query.flag("details"),
        )
        health = self._statistics.healthz(options)
        return Answer(health.status_code, JSON, health.model_copy(update={"status_code": 0}).encode())

    async def _jsz(self, query: Query) -> Answer:
        options = JszOptions(
            account=query.text("acc"),
            accounts=query.flag("accounts"),
            streams=query.flag("streams"),
            consumer=query.flag("consumers"),
            direct_consumer=query.flag("direct-consumers"),
            config=query.flag("config"),
            leader_only=query.flag("leader-only"),
            offset=query.number("offset"),
            limit=query.number("limit"),
            raft=query.flag("raft"),
            stream_leader_only=query.flag("stream-leader-only"),
        )
        info = await self._statistics.jsz(options)
        if info is None:
            return text(400, "filtered response: not leader")
        # A long list takes a while to print, and nothing of it belongs to the loop any more.
        return Answer(200, JSON, await asyncio.to_thread(lambda: json_bytes(info.wire())))

    async def _metrics(self, scope: Scope) -> Answer:
        # The library is there from the first scrape on only: it costs memory, and time at the start.
        from streamd.monitor.metrics import render, take

        taken = await take(self._streaming) if self._streaming is not None else None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        return await asyncio.to_thread(render, taken, headers, scope["query_string"].decode("latin-1"))

    def _index(self) -> bytes:
        paths = (path for path in self._requests if path != "/" and path.count("/") == 1)
        links = "\n".join(f'<li><a href=".{escape(path)}">{escape(path[1:])}</a></li>' for path in paths)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>streamd</title></head>\n'
            f"<body><h1>streamd</h1>\n<ul>\n{links}\n</ul></body></html>\n"
        ).encode()
