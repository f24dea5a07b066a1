"""Host names with several addresses: which server is behind one is known once it has been dialed."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.ports import free_port
from streamd.cluster import addresses, dial
from tests.cluster.members import ByHand, cluster_of, linked, member, names, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Resolve = Callable[..., None]

pytestmark = pytest.mark.anyio


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Have `cluster.test` resolve to these addresses from now on."""
    monkeypatch.setattr(dial, "RETRY_SECONDS", 0.02)
    real, known = socket.getaddrinfo, list[str]()

    def resolved(host: Any, port: Any, *args: Any, **more: Any) -> list[Any]:
        if host != "cluster.test":
            return real(host, port, *args, **more)
        return [found for address in known for found in real(address, port, *args, **more)]

    def use(*given: str) -> None:
        known[:] = given

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return use


async def test_lane_follows_its_route(resolve: Resolve) -> None:
    """Not the name, which may stand for another server by then."""
    port = free_port()
    resolve("127.0.0.1")
    url = f"nats-route://cluster.test:{port}"
    async with member("b", port=port), member("c", port=port, host="127.0.0.2"), member("a", url) as a:
        cluster_of(a).watch(lambda _peer, _came: resolve("127.0.0.2"))
        await until(lambda: linked(a) == ["b"])

        assert names(a) == ["b"]


async def test_lane_to_another_server_is_dialed_again(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    caplog.set_level(logging.INFO, "streamd")
    async with ByHand.listen(port) as dialed, member("a", f"nats-route://127.0.0.1:{port}") as a:
        for server_id in ("ZHAND", "ZOTHER", "ZHAND"):
            hand = await dialed.get()
            hand.info(server_id=server_id, streamd="1")
            hand.say("PONG")
            if server_id == "ZOTHER":
                await hand.ended()
        cluster = cluster_of(a)
        await until(
            lambda: [route.lane for route in cluster.routes.values() if cluster.carries(route)] == [False, True]
        )

        said = [record.getMessage() for record in caplog.records]
        assert any(text.endswith("leads to server ZOTHER, and not to ZHAND") for text in said)
        assert any(text.endswith("Router connection closed: Wrong Server") for text in said)


@pytest.mark.parametrize("local", [True, False])
async def test_name_of_this_server_and_another_one_is_dialed_on(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, local: bool
) -> None:
    """Also when the other one isn't there yet. A founding waits for it unless the address is this machine's, too."""
    monkeypatch.setattr(dial, "is_local", lambda _: local)
    port = free_port()
    resolve("127.0.0.1", "127.0.0.2")
    async with member("a", f"nats-route://cluster.test:{port}", port=port) as a:
        await until(lambda: any("(attempt 1)" in record.getMessage() for record in caplog.records))
        assert cluster_of(a).founders() == (frozenset("a") if local else None)
        for _ in range(2):
            async with member("b", port=port, host="127.0.0.2"):
                await until(lambda: names(a) == ["b"])

                assert cluster_of(a).founders() == frozenset("ab")
            await until(lambda: names(a) == [])


@pytest.mark.parametrize("found", [("127.0.0.1",), ("127.0.0.1", "::1")])
async def test_name_of_this_server_alone_is_not_dialed_on(resolve: Resolve, found: tuple[str, ...]) -> None:
    """That it listens in one family says nothing of another server."""
    port = free_port()
    resolve(*found)
    async with member("a", f"nats-route://cluster.test:{port}", port=port) as a:
        await until(lambda: not cluster_of(a)._tasks)

        assert cluster_of(a).configured == {}


def test_addresses_of_this_machine() -> None:
    assert [addresses.is_local(one) for one in ("127.0.0.1", "::1", "192.0.2.1", "2001:db8::1")] == [
        True,
        True,
        False,
        False,
    ]
