"""The monitoring endpoints, over a real socket."""

from __future__ import annotations

import asyncio
import json
import socket

import anyio
import pytest

from streamd.monitor.serve import MonitorServer
from streamd.monitor.varz import uptime_text
from tests.monitor.asking import Told, ask, with_monitor


def test_varz_shows_settings_and_counts_requests() -> None:
    async def test(port: int, _told: Told) -> None:
        await ask(port, "/healthz")
        found = await ask(port, "/varz?x=1")
        varz = json.loads(found.body)

        assert found.status == 200
        assert found.kind == "application/json"
        assert found.headers["access-control-allow-origin"] == "*"
        assert (varz["server_id"], varz["port"], varz["max_payload"]) == ("ID", 4222, 1 << 20)
        assert varz["http_req_stats"] == {"/": 0, "/healthz": 1, "/jsz": 0, "/metrics": 0, "/routez": 0, "/varz": 1}
        assert varz["mem"] > 1 << 20

    with_monitor(test)


def test_healthz_says_what_is_wrong() -> None:
    async def test(port: int, told: Told) -> None:
        well = await ask(port, "/healthz")
        told.problem = "the disk is full"
        ill = await ask(port, "/healthz")

        assert (well.status, well.json()) == (200, {"status": "ok"})
        assert (ill.status, ill.json()) == (503, {"status": "unavailable", "error": "the disk is full"})

    with_monitor(test)


def test_arguments() -> None:
    """They become options under their names over HTTP; what can't be read is refused in nats-server's words."""

    async def test(port: int, told: Told) -> None:
        told.problem = "the disk is full"
        server_only = await ask(port, "/healthz?js-server-only=true")
        jsz = (await ask(port, "/jsz?acc=A&limit=5&accounts=T&streams=")).json()
        follower = await ask(port, "/jsz?leader-only=1")
        flag = await ask(port, "/jsz?accounts=2")
        number = await ask(port, "/jsz?offset=x")

        assert server_only.status == 200
        assert isinstance(jsz, dict)
        assert (jsz["server_id"], jsz["streams"], jsz["total"]) == ("A", 5, 1)
        assert (follower.status, flag.status, number.status) == (400, 400, 400)
        assert flag.body == "Error decoding boolean for 'accounts': strconv.ParseBool: parsing \"2\": invalid syntax\n"
        assert number.body == "Error decoding int for 'offset': strconv.Atoi: parsing \"x\": invalid syntax\n"

    with_monitor(test)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 200, 'href="./varz"'),
        ("GET", "/", 200, 'href="./metrics"'),
        ("GET", "/nowhere", 404, "not found"),
        ("POST", "/varz", 405, "not allowed"),
        ("HEAD", "/varz", 200, ""),
    ],
)
def test_answer(method: str, path: str, status: int, text: str) -> None:
    async def test(port: int, _told: Told) -> None:
        found = await ask(port, path, method)

        assert status == found.status
        assert text in found.body
        assert text or not found.body

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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (61, "1m1s"),
        (3600, "1h0m0s"),
        (93784.9, "1d2h3m4s"),
        (365 * 86400 - 1, "364d23h59m59s"),
        (366 * 86400 + 1, "1y1d0h0m1s"),
    ],
)
def test_uptime(seconds: float, text: str) -> None:
    assert text == uptime_text(seconds)
