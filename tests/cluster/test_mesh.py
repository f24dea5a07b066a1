"""Who is connected to whom: seeds and gossip, ends and returns, duplicates, names."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import operator
from functools import partial
from typing import TYPE_CHECKING

import nats
import pytest

from benchmarks.ports import free_port
from streamd.cluster import dial
from tests.cluster.members import ByHand, cluster_of, linked, member, meshed, names, seed, until

if TYPE_CHECKING:
    from streamd import Server
    from streamd.cluster.remote import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamd")


def logged(caplog: pytest.LogCaptureFixture, server: str, text: str) -> bool:
    return any(text in record.getMessage() for record in caplog.records if record.name == f"streamd.{server}")


def carrying(server: Server) -> list[bool]:
    """Of the connections that carry, sorted: whether each is a lane."""
    cluster = cluster_of(server)
    return sorted(route.lane for route in cluster.routes.values() if cluster.carries(route))


async def test_one_seed_makes_a_mesh(caplog: pytest.LogCaptureFixture) -> None:
    async with member("a") as a, member("b", seed(a)) as b, member("c", seed(a)) as c, member("d", seed(c)) as d:
        await meshed(a, b, c, d)

        assert [carrying(server) for server in (a, b, c, d)] == [[False] * 3 + [True] * 3] * 4
        assert logged(caplog, "a", "Cluster name is C")
        assert logged(caplog, "a", f"Listening for route connections on 127.0.0.1:{cluster_of(a).port}")
        assert logged(caplog, "a", "rid:1 - Route connection created")
    assert logged(caplog, "d", "Router connection closed: Server Shutdown")


async def test_server_that_returns_is_found_again() -> None:
    """By those that are configured to dial it, and by those that heard of it; those that stay are told at once."""
    port = free_port()
    came: list[tuple[str, bool]] = []
    b = member("b", port=port)
    await b.__aenter__()
    async with member("a", f"nats-route://127.0.0.1:{port}") as a, member("c", seed(a)) as c:
        await meshed(a, b, c)
        cluster_of(c).watch(lambda peer, here: came.append((peer.server_name, here)))
        await b.__aexit__(None, None, None)
        await until(lambda: names(a) == ["c"] and names(c) == ["a"])

        assert came == [("b", False)]
        async with member("b", port=port) as again:
            await meshed(a, again, c)

            assert came == [("b", False), ("b", True)]


async def test_broken_connection_between_two_that_no_configuration_names_comes_back() -> None:
    """They know each other by gossip alone, which told them once; a third one still is connected to both."""
    async with member("a") as a, member("b", seed(a)) as b, member("c", seed(a)) as c:
        await meshed(a, b, c)
        cluster = cluster_of(b)
        told: list[tuple[str, bool]] = []
        cluster.watch(lambda peer, here: told.append((peer.server_name, here)))
        for times in range(1, 4):
            for route in list(cluster.routes.values()):
                if route.info is not None and route.info.server_name == "c":
                    route.transport.abort()
            # Not the state, which may have come and gone between two looks at it.
            await until(partial(operator.eq, told, [("c", False), ("c", True)] * times))
            await meshed(a, b, c)


async def test_two_that_dial_each_other_keep_one_connection() -> None:
    for _ in range(5):
        ports = free_port(), free_port()
        one, other = (f"nats-route://127.0.0.1:{port}" for port in ports)
        a, b = member("a", other, one, port=ports[0]), member("b", one, other, port=ports[1])
        told: list[tuple[str, bool]] = []

        def record(peer: Peer, came: bool, told: list[tuple[str, bool]] = told) -> None:
            told.append((peer.server_name, came))

        await asyncio.gather(a.__aenter__(), b.__aenter__())
        try:
            for server in (a, b):
                cluster_of(server).watch(record)
            await meshed(a, b)
            await until(lambda a=a, b=b: [len(cluster_of(s).routes) for s in (a, b)] == [2, 2])  # type: ignore[misc]

            assert carrying(a) == carrying(b) == [False, True]
            assert (told.count(("a", False)), told.count(("b", False))) == (0, 0)
        finally:
            await asyncio.gather(a.__aexit__(None, None, None), b.__aexit__(None, None, None))


async def test_server_does_not_dial_itself_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    async with member("a", f"nats-route://localhost:{port}", port=port) as a:
        await until(lambda: logged(caplog, "a", "Detected route to self"))
        await until(lambda: not cluster_of(a).routes)

        await until(lambda: not cluster_of(a)._tasks)

        assert names(a) == []


async def test_other_cluster_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with member("a") as a, member("b", seed(a), name="D") as b:
        text = 'Rejecting connection, cluster name "D" does not match "C"'
        await until(lambda: logged(caplog, "a", text))
        await until(lambda: logged(caplog, "b", "Router connection closed: "))

        assert names(a) == names(b) == []
        async with ByHand.dial(a) as hand:
            hand.connect(cluster="D")
            assert await hand.hear("-ERR") == f"-ERR '{text}'"
            await hand.ended()


async def test_made_up_name_yields(caplog: pytest.LogCaptureFixture) -> None:
    """To a configured one, from whichever side; of two made-up ones one remains."""
    async with member("a", name="") as a:
        made_up = cluster_of(a).name
        assert logged(caplog, "a", "Cluster name was dynamically generated, consider setting one")
        async with member("b", seed(a), name="") as b:
            await meshed(a, b)

            assert {cluster_of(a).name, cluster_of(b).name} == {max(made_up, b.server_id[-22:])}
            async with member("c", seed(a), name="Z") as c:
                await meshed(a, b, c)

                assert [cluster_of(server).name for server in (a, b, c)] == ["Z", "Z", "Z"]
                assert logged(caplog, "a", "Cluster name updated to Z")
                client = await nats.connect(b.client_url)
                assert client._server_info["cluster"] == "Z"
                await client.close()
    async with member("a") as a, member("b", seed(a), name="") as b:
        await meshed(a, b)

        assert cluster_of(b).name == "C"


async def test_name_of_a_server_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async with member("a") as a, member("a", seed(a)) as other:
        await until(lambda: logged(caplog, "a", 'Remote server has a duplicate name: "a"'))
        await until(lambda: logged(caplog, "a", "Router connection closed: Duplicate Server Name"))

        assert names(a) == names(other) == []


async def test_clients_are_told_that_the_port_is_not_theirs() -> None:
    async with member("a") as a, ByHand.dial(a) as hand:
        hand.connect(lang="python")

        assert await hand.hear("-ERR") == "-ERR 'attempted to connect to route port'"


@pytest.mark.parametrize("said", [b"CONNECT {", b"CONNECT 5", b"CONNECT {}\r\nINFO {}", b"INFO [[[[", b"\x00\xff"])
async def test_nonsense_ends_the_connection(said: bytes) -> None:
    async with member("a") as a, ByHand.dial(a) as hand:
        hand.say(said)
        await hand.ended()
        await until(lambda: not cluster_of(a).routes)


@pytest.mark.parametrize(
    "said",
    [
        b'CONNECT {"gateway":"\\ud800"}',
        b'CONNECT {"cluster":"C","user":"\\udfff"}',
        b'CONNECT {"cluster":"\xed\xa0\x80"}',
        b'CONNECT {"cluster":"C"}\r\nINFO {"server_id":"N","server_name":"\\ud800"}',
        b'CONNECT {"cluster":"C"}\r\nINFO {"server_id":"N","cluster":"C","more":[{"\\ud800":1}]}',
        b'INFO {"server_id":"\\ud800"}',
    ],
)
async def test_text_that_is_no_unicode_is_a_parse_error(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever says it, before it is known what it may: such text has no form to be sent or logged in."""
    async with member("a") as a, ByHand.dial(a) as hand:
        hand.say(said)
        await hand.ended()
        await until(lambda: not cluster_of(a).routes)

        assert logged(caplog, "a", "Router connection closed: Parse Error")
        assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
async def test_name_that_cannot_be_looked_up_is_tried_again(
    host: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As every one that isn't there."""
    monkeypatch.setattr(dial, "RETRY_SECONDS", 0.01)
    async with member("a", f"nats-route://{host}:1"):
        await until(lambda: logged(caplog, "a", f"Error trying to connect to route nats-route://{host}:1/ (attempt 2)"))


async def test_handshake_takes_its_time_at_most(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing counts that was said before."""
    access = {"user": "u", "password": "p", "timeout_ns": 200_000_000}
    async with member("a", authorization=access) as a, ByHand.dial(a) as hand:
        client = await nats.connect(a.client_url)
        subscription = await client.subscribe("x")
        await client.flush()
        hand.say("RMSG $G x 2\r\nno")
        hand.connect(user="u")
        hand.info()
        told = await hand.ended()

        assert "Authentication Timeout" in told or "Authorization Violation" in told
        assert logged(caplog, "a", "Router connection closed: ")
        assert subscription.pending_msgs == 0
        await client.close()


async def test_newcomer_is_told_of_with_its_address() -> None:
    async with member("a") as a, ByHand.dial(a) as hand:
        hand.connect()
        hand.info()
        await until(lambda: names(a) == ["hand"])
        async with member("b", seed(a)) as b:
            while True:
                told = json.loads((await hand.hear("INFO")).removeprefix("INFO "))
                if told["server_id"] == b.server_id:
                    break

            assert told["ip"] == f"nats-route://127.0.0.1:{cluster_of(b).port}/"


async def test_advertised_address_is_what_others_dial() -> None:
    async with member("a", advertise="127.0.0.1") as a, member("b", seed(a)) as b:
        await meshed(a, b)
        (route,) = (route for route in cluster_of(b).routes.values() if not route.lane)

        assert route.url == f"nats-route://127.0.0.1:{cluster_of(a).port}/"


async def test_silent_server_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with member("a", ping_interval_ns=50_000_000, ping_max=1) as a, ByHand.dial(a) as hand:
        hand.connect()
        hand.info()
        await until(lambda: names(a) == ["hand"])
        told = await hand.ended()

        assert "-ERR 'Stale Connection'" in told
        await until(lambda: names(a) == [])
        assert logged(caplog, "a", "Router connection closed: Stale Connection")


async def test_wrong_password_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A server says what its URL names, else what its own cluster block has."""
    access = {"user": "route", "password": "secret"}
    async with member("a", authorization=access) as a:
        with_user = seed(a).replace("//", "//route:secret@")
        async with member("b", seed(a)) as b:
            await until(lambda: logged(caplog, "a", "authentication error"))
            await until(lambda: logged(caplog, "b", "Router connection closed: "))

            assert names(a) == names(b) == []
        async with member("c", with_user) as c, member("d", seed(a), authorization=access) as d:
            await until(lambda: names(a) == ["c", "d"])
            await until(lambda: names(d) == ["a", "c"] and names(c) == ["a", "d"])
    assert not any("secret" in record.getMessage() for record in caplog.records)


async def test_links_are_told_at_once() -> None:
    """The end of the lane, though the connection beside it stands; and both again."""
    async with member("a") as a, member("b", seed(a)) as b:
        await meshed(a, b)
        told: list[bool] = []
        net = cluster_of(a).net
        assert net is not None
        net.on_link(lambda _, up: told.append(up))
        (lane,) = (route for route in cluster_of(b).routes.values() if route.lane)
        lane.transport.abort()
        await until(lambda: told == [False, True])

        assert names(a) == ["b"]
        assert linked(a) == ["b"]


async def test_stopping_while_dialing_leaves_nothing() -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(member("a", f"nats-route://127.0.0.1:{free_port()}"))
    names_ = {task.get_name() for task in asyncio.all_tasks() if "keep" in repr(task.get_coro())}

    assert names_ == set()
