"""Which of two connections between the same servers carries: one side chooses, and nothing is lost or waits meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

import nats
import pytest

from benchmarks.ports import free_port
from streamd.cluster import remote
from tests.cluster.members import ByHand, cluster_of, member, names, until
from tests.cluster.test_mesh import logged

pytestmark = pytest.mark.anyio

#: Ids of servers: the smaller one chooses, and all real ones start with N.
CHOOSES: Final = "A"
IS_TOLD: Final = "Z"


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamd")


def said_of(line: str) -> dict[str, Any]:
    """What an INFO says."""
    found: dict[str, Any] = json.loads(line.removeprefix("INFO "))
    return found


async def told_that_it_carries(hand: ByHand) -> None:
    """Before anything else is sent there."""
    while True:
        line = await hand.hear("")
        assert not line.startswith("R"), line
        if line.startswith("INFO") and said_of(line).get("streamd_carries"):
            return


async def test_two_connections_of_one_server_with_the_first_one_dead() -> None:
    """Whoever comes back before this side knows that it had gone is not sent away for good."""
    async with member("a") as a, ByHand.dial(a) as first, ByHand.dial(a) as second:
        await first.hear("INFO")
        await second.hear("INFO")
        for hand in (first, second):
            hand.connect(name=IS_TOLD)
            hand.info(server_id=IS_TOLD, streamd="1")
        await told_that_it_carries(first)
        await first.hear("RS+")
        first.close()
        await told_that_it_carries(second)
        await second.hear("RS+")

        assert names(a) == ["hand"]
        assert sum(cluster_of(a).carries(route) for route in cluster_of(a).routes.values()) == 1


async def test_dead_connection_is_found_when_its_dialer_comes_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Long before its own PINGs would tell. While it answers, the other one is one too many."""
    monkeypatch.setattr(remote, "PROOF_SECONDS", 0.5)
    async with member("a") as a, ByHand.dial(a) as first, ByHand.dial(a) as second, ByHand.dial(a) as third:
        for hand in (first, second):
            hand.connect(name=IS_TOLD)
            hand.info(server_id=IS_TOLD, streamd="1")
        await until(lambda: logged(caplog, "a", "Detected duplicate remote route"))
        first.say("PONG")
        await second.ended()
        assert names(a) == ["hand"]
        assert logged(caplog, "a", "Router connection closed: Duplicate Route")
        third.connect(name=IS_TOLD)
        third.info(server_id=IS_TOLD, streamd="1")
        await first.ended()

        assert logged(caplog, "a", "Router connection closed: Stale Connection")
        await told_that_it_carries(third)
        await until(lambda: names(a) == ["hand"])
        assert len(cluster_of(a).routes) == 1


async def test_one_of_two_servers_chooses_the_connection() -> None:
    """The other one sends nothing of its own on any before it has been told: whatever it sent might never be read."""
    port = free_port()
    hello = {"server_id": CHOOSES, "streamd": "1"}
    async with ByHand.listen(port) as dialed, member("a", f"nats-route://127.0.0.1:{port}") as a:
        client = await nats.connect(a.client_url)
        subscription = await client.subscribe("x")
        await client.flush()
        first = await dialed.get()
        first.info(**hello)
        first.say("PONG")
        async with ByHand.dial(a) as second:
            second.connect(name=CHOOSES)
            second.info(**hello)
            for hand in (first, second):
                hand.say("PING")
                while (line := await hand.hear("")) != "PONG":
                    assert line.startswith(("INFO", "CONNECT", "PING"))
            assert names(a) == []
            second.info(**hello, streamd_carries=True)
            second.say("RS+ $G y")
            second.say("RMSG $G x 1\r\n1")
            await second.hear("RS+")
            assert (await subscription.next_msg(10)).data == b"1"
            assert names(a) == ["hand"]
            await client.publish("y", b"2")
            assert await second.hear("RMSG") == "RMSG $G y 1"
            # It has seen the end of that one, and takes the other one.
            first.info(**hello, streamd_carries=True)
            first.say("RMSG $G x 1\r\n3")
            await second.ended()
            assert (await subscription.next_msg(10)).data == b"3"
            assert names(a) == ["hand"]
            await client.publish("y", b"4")
            first.say("RS+ $G y")
            await first.hear("RS+")
            await client.publish("y", b"5")
            assert [await first.hear(start) for start in ("RMSG", "5")] == ["RMSG $G y 1", "5"]
        await client.close()


async def test_only_one_of_two_servers_chooses() -> None:
    """A connection that the other one says is to carry isn't, where this one chooses."""
    async with member("a") as a, ByHand.dial(a) as first, ByHand.dial(a) as second:
        for hand in (first, second):
            hand.connect(name=IS_TOLD)
            hand.info(server_id=IS_TOLD, streamd="1")
        await told_that_it_carries(first)
        second.info(server_id=IS_TOLD, streamd="1", streamd_carries=True)
        second.say("RS+ $G y")
        second.say("PING")
        first.say("PING")
        await first.hear("PONG")
        assert names(a) == ["hand"]
        assert [route.info is not None and cluster_of(a).carries(route) for route in cluster_of(a).routes.values()] == [
            True,
            False,
        ]


async def test_two_that_dial_each_other_hear_each_other_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first message that comes on none is missing, and none waits for the end of the connection that is too many."""
    monkeypatch.setattr(remote, "PROOF_SECONDS", 3_600)
    for _ in range(10):
        ports = free_port(), free_port()
        one, other = (f"nats-route://127.0.0.1:{port}" for port in ports)
        a, b = member("a", other, port=ports[0]), member("b", one, port=ports[1])
        await asyncio.gather(a.__aenter__(), b.__aenter__())
        clients = [await nats.connect(server.client_url) for server in (a, b)]
        try:
            heard: dict[str, list[int]] = {"a": [], "b": []}

            async def note(message: Any, heard: dict[str, list[int]] = heard) -> None:
                heard[message.subject].append(int(message.data))

            for client, subject in zip(clients, "ab", strict=True):
                await client.subscribe(subject, cb=note)
            async with asyncio.timeout(10):
                number = 0
                while min(map(len, heard.values())) < 20:
                    number += 1
                    for client, subject in zip(clients, "ba", strict=True):
                        await client.publish(subject, b"%d" % number)
                        await client.flush()
            for numbers in heard.values():
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        finally:
            for client in clients:
                await client.close()
            await asyncio.gather(a.__aexit__(None, None, None), b.__aexit__(None, None, None))
