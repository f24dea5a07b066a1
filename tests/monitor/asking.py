"""Monitoring to ask: over a real socket, or the application alone; and statistics that say what a test wants."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import anyio

from streamd.api.system import Health, JetStreamInfo
from streamd.config.models import Config
from streamd.monitor.app import MonitorApp
from streamd.monitor.process import Process
from streamd.monitor.serve import MonitorServer
from streamd.monitor.varz import configured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from streamd.api.system import HealthzOptions, JszOptions
    from streamd.monitor.app import Receive, Send
    from streamd.stan.views import StreamingStatistics


class Told:
    """Statistics that say what a test wants to hear."""

    def __init__(self) -> None:
        self.problem: str | None = None

    def varz(self) -> dict[str, object]:
        return {"server_id": "ID", **configured(Config()), **Process().fields()}

    def routez(self) -> dict[str, object]:
        return {"num_routes": 0, "routes": []}

    def healthz(self, options: HealthzOptions) -> Health:
        if self.problem is None or options.js_server_only:
            return Health()
        return Health(status="unavailable", status_code=503, error=self.problem)

    async def jsz(self, options: JszOptions) -> JetStreamInfo | None:
        if options.leader_only:
            return None
        return JetStreamInfo(
            server_id=options.account or "ID", now=0, streams=options.limit, total=int(options.accounts)
        )


class Heard(NamedTuple):
    """One answer. Shapes: names of headers in small letters."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> str:
        return self.raw.decode()

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "")

    def json(self) -> object:
        return json.loads(self.raw)


async def ask(port: int, path: str, method: str = "GET", **headers: str) -> Heard:
    """One request on a connection of its own; `accept_encoding="gzip"` is a header."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    status, *found = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in found)
    return Heard(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


def with_monitor(test: Callable[[int, Told], Awaitable[None]], streaming: StreamingStatistics | None = None) -> None:
    """Runs a test with the port of a monitoring server, and what that server is told."""

    async def run() -> None:
        told = Told()
        server = MonitorServer(told, "127.0.0.1", -1, streaming)
        server.bind()
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.serve)
            with anyio.fail_after(10):
                await test(server.port, told)
            server.stop()

    asyncio.run(run())


def asked(path: str, streaming: StreamingStatistics | None = None, method: str = "GET", **headers: str) -> Heard:
    """The answer of an application of its own, asked as the HTTP server would ask it but without one."""
    target, _, query = path.partition("?")
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": unquote(target), "query_string": query.encode(), "headers": given,
    }  # fmt: skip
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    asyncio.run(_call(MonitorApp(Told(), streaming), scope, receive, send))
    start, body = sent
    return Heard(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"])


async def _call(app: MonitorApp, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
