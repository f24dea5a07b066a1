"""What clients are told of the cluster, and what monitoring shows of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import nats
import pytest

from benchmarks.ports import free_port
from streamd import Server
from streamd.cluster import addresses
from streamd.config.models import Config
from tests.cluster.members import cluster_of, member, meshed, names, seed, until
from tests.monitor.asking import ask

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client

pytestmark = pytest.mark.anyio


def ports(client: Client) -> set[int]:
    """Of the servers that a client knows, its own among them."""
    return {int(server.netloc.rpartition(":")[2]) for server in client.servers}


async def test_clients_are_told_of_members_that_come() -> None:
    async with member("a") as a:
        client = await nats.connect(a.client_url)
        assert ports(client) == {a.port}
        assert "connect_urls" not in client._server_info
        async with member("b", seed(a)) as b:
            await until(lambda: ports(client) == {a.port, b.port})
            async with member("c", seed(b)) as c:
                await until(lambda: ports(client) == {a.port, b.port, c.port})

                assert {server.netloc for server in client.discovered_servers} >= {f"127.0.0.1:{b.port}"}
                late = await nats.connect(a.client_url)
                assert ports(late) == {a.port, b.port, c.port}
                assert late._server_info["cluster"] == "C"
                await late.close()
        await client.close()


async def test_client_goes_on_at_another_member() -> None:
    """When its own one ends; it is told of nothing but the first address."""
    async with member("a") as a:
        b = member("b", seed(a))
        await b.__aenter__()
        await meshed(a, b)
        client = await nats.connect(b.client_url, reconnect_time_wait=0.01)
        assert ports(client) == {a.port, b.port}
        subscription = await client.subscribe("x")
        await client.flush()
        await b.__aexit__(None, None, None)
        await until(lambda: client.connected_url is not None and client.connected_url.port == a.port)
        await client.publish("x", b"still here")

        assert (await subscription.next_msg(5)).data == b"still here"
        await client.close()


class Raw:
    """A client that shows every INFO it is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def info(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not (line := await self.reader.readline()).startswith(b"INFO "):
                assert line
        found: dict[str, Any] = json.loads(line[5:])
        return found


async def raw(server: Server) -> Raw:
    return Raw(*await asyncio.open_connection("127.0.0.1", server.port))


async def test_later_info_never_comes_between_connect_and_pong() -> None:
    """Clients read the PONG as the next line; those that don't know of later INFOs get none."""
    async with member("a") as a:
        waiting, old = await raw(a), await raw(a)
        for one, protocol in ((waiting, 1), (old, 0)):
            await one.info()
            one.writer.write(b'CONNECT {"verbose":false,"protocol":%d}\r\n' % protocol)
        async with member("b", seed(a)) as b:
            await meshed(a, b)
            for one in (waiting, old):
                one.writer.write(b"PING\r\n")

                assert await one.reader.readline() == b"PONG\r\n"
            told = await waiting.info()
            assert told["connect_urls"] == [f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"]
        # The own addresses stay, as in nats-server.
        assert (await waiting.info())["connect_urls"] == [f"127.0.0.1:{a.port}"]
        old.writer.write(b"PING\r\n")
        assert await old.reader.readline() == b"PONG\r\n"
        for one in (waiting, old):
            one.writer.close()
            await one.writer.wait_closed()


async def test_nothing_is_told_where_advertising_is_off() -> None:
    async with member("a") as a, member("b", seed(a), no_advertise=True) as b:
        await meshed(a, b)
        of_a, of_b = await nats.connect(a.client_url), await nats.connect(b.client_url)

        assert "connect_urls" not in of_b._server_info
        assert of_a._server_info["connect_urls"] == [f"127.0.0.1:{a.port}"]
        await of_a.close()
        await of_b.close()


async def test_advertised_client_address_is_told() -> None:
    cluster = {"name": "C", "host": "127.0.0.1", "port": -1}
    config = Config(host="127.0.0.1", port=-1, client_advertise="example.org:9", server_name="a", cluster=cluster)  # type: ignore[arg-type]
    async with Server(config) as a, member("b", seed(a)) as b:
        await until(lambda: names(a) == ["b"] and names(b) == ["a"])

        assert cluster_of(b).connect_urls == (f"127.0.0.1:{b.port}", "example.org:9")


def test_server_that_listens_everywhere_has_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert addresses.client_urls("::1", 5) == ("[::1]:5",)
    assert not any(url.startswith("127.") for url in addresses.client_urls("0.0.0.0", 5)[1:])
    monkeypatch.setattr(addresses, "_addresses", lambda: ["192.0.2.1", "192.0.2.2"])
    assert addresses.client_urls("0.0.0.0", 5) == ("192.0.2.1:5", "192.0.2.2:5")
    monkeypatch.setattr(addresses, "_addresses", list)
    assert addresses.client_urls("", 5) == ("127.0.0.1:5",)


def told_launchers(directory: Path) -> dict[str, list[str]]:
    (file,) = directory.glob("*.ports")
    found: dict[str, list[str]] = json.loads(file.read_text())
    return found


async def test_routez_shows_connections(tmp_path: Path) -> None:
    cluster = {"name": "C", "host": "127.0.0.1", "port": -1}
    config = Config(
        host="127.0.0.1", port=-1, http_port=-1, server_name="a", jetstream=True, ports_file_dir=str(tmp_path),  # type: ignore[arg-type]
        cluster=cluster,  # type: ignore[arg-type]
    )  # fmt: skip
    async with Server(config) as a, member("b", seed(a)) as b:
        await meshed(a, b)
        assert a.monitor_port is not None
        page: Any = (await ask(a.monitor_port, "/routez")).json()

        assert (page["server_id"], page["server_name"], page["num_routes"]) == (a.server_id, "a", 2)
        main, lane = sorted(page["routes"], key=lambda route: "account" in route)
        assert lane["account"] == "$SYS"
        for route in (main, lane):
            assert (route["remote_id"], route["remote_name"]) == (b.server_id, "b")
            assert (route["did_solicit"], route["is_configured"], route["ip"]) == (False, False, "127.0.0.1")
            assert route["subscriptions"] > 0
        assert main.keys() >= {
            "rid", "port", "start", "last_activity", "rtt", "uptime", "idle", "pending_size", "in_msgs", "out_msgs",
            "in_bytes", "out_bytes",
        }  # fmt: skip
        varz: Any = (await ask(a.monitor_port, "/varz")).json()
        assert (varz["routes"], varz["remotes"], varz["connections"]) == (2, 1, 0)
        assert varz["cluster"] == {
            "name": "C", "addr": "127.0.0.1", "cluster_port": cluster_of(a).port, "auth_timeout": 2.0, "urls": [],
            "pool_size": 3,
        }  # fmt: skip
        assert varz["connect_urls"] == [f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"]
        assert told_launchers(tmp_path)["cluster"] == [f"nats://127.0.0.1:{cluster_of(a).port}"]
        (configured,) = (route for route in cluster_of(b).routes.values() if not route.lane)
        assert cluster_of(b).is_configured(configured)


async def test_server_without_a_cluster_has_an_empty_page() -> None:
    async with Server(Config(host="127.0.0.1", port=-1, http_port=-1)) as alone:
        assert alone.monitor_port is not None
        page: Any = (await ask(alone.monitor_port, "/routez")).json()
        varz: Any = (await ask(alone.monitor_port, "/varz")).json()

        assert (page["num_routes"], page["routes"]) == (0, [])
        assert (varz["routes"], varz["remotes"], varz["cluster"]) == (0, 0, {})


async def test_port_that_is_taken_ends_the_start() -> None:
    async with member("a") as a:
        with pytest.raises(OSError, match="in use"):
            await member("b", port=cluster_of(a).port).__aenter__()
    assert free_port()
