"""The monitoring endpoints, over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING

import anyio
import pytest

from streamd.config.models import Config
from streamd.monitor.serve import MonitorServer
from streamd.monitor.varz import Process, configured, uptime_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Told:
    """Statistics that say what a test wants to hear."""

    def __init__(self) -> None:
        self.problem: str | None = None

    def varz(self) -> dict[str, object]:
        return {"server_id": "ID", **configured(Config()), **Process().fields()}

    def healthz(self) -> str | None:
        return self.problem


async def ask(port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Status, head and body of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), head.lower(), body


def with_monitor(test: Callable[[int, Told], Awaitable[None]]) -> None:
    async def run() -> None:
        told = Told()
        server = MonitorServer(told, "127.0.0.1", -1)
        server.bind()
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.serve)
            with anyio.fail_after(10):
                await test(server.port, told)
            server.stop()

    asyncio.run(run())


def test_varz_shows_settings_and_counts_requests() -> None:
    async def test(port: int, _told: Told) -> None:
        await ask(port, "/healthz")
        status, head, body = await ask(port, "/varz?x=1")
        varz = json.loads(body)

        assert status == 200
        assert "content-type: application/json" in head
        assert "access-control-allow-origin: *" in head
        assert (varz["server_id"], varz["port"], varz["max_payload"]) == ("ID", 4222, 1 << 20)
        assert varz["http_req_stats"] == {"/": 0, "/healthz": 1, "/varz": 1}
        assert varz["mem"] > 1 << 20

    with_monitor(test)


def test_healthz_says_what_is_wrong() -> None:
    async def test(port: int, told: Told) -> None:
        assert _parsed(await ask(port, "/healthz")) == (200, {"status": "ok"})
        told.problem = "the disk is full"
        assert _parsed(await ask(port, "/healthz")) == (
            503,
            {"status": "unavailable", "error": "the disk is full"},
        )

    with_monitor(test)


def _parsed(answer: tuple[int, str, str]) -> tuple[int, object]:
    return answer[0], json.loads(answer[2])


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 200, 'href="./varz"'),
        ("GET", "/nowhere", 404, "not found"),
        ("POST", "/varz", 405, "not allowed"),
        ("HEAD", "/varz", 200, ""),
    ],
)
def test_answer(method: str, path: str, status: int, text: str) -> None:
    async def test(port: int, _told: Told) -> None:
        found, _, body = await ask(port, path, method)

        assert status == found
        assert text in body
        assert text or not body

    with_monitor(test)


def test_taken_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"monitor port 127.0.0.1:{port}: address already in use"):
            MonitorServer(Told(), "127.0.0.1", port).bind()


def test_cancellation_leaves_no_socket_open() -> None:
    async def run() -> int:
        server = MonitorServer(Told(), "127.0.0.1", -1)
        server.bind()
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.serve)
            tasks.cancel_scope.cancel()
        return server.port

    port = asyncio.run(run())

    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (61, "1m1s"), (3600, "1h0m0s"), (93784.9, "1d2h3m4s")])
def test_uptime(seconds: float, text: str) -> None:
    assert text == uptime_text(seconds)
