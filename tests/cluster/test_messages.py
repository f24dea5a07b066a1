"""Unmodified nats-py on three servers that are one: what a client may rely on, wherever it is connected."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import nats
import pytest
from nats.errors import NoRespondersError

from tests.cluster.members import member, meshed, seed, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from streamd import Server

pytestmark = pytest.mark.anyio


@pytest.fixture
async def three(anyio_backend: str) -> AsyncIterator[list[Server]]:
    """A mesh out of one seed."""
    async with member("a") as a, member("b", seed(a)) as b, member("c", seed(a)) as c:
        await meshed(a, b, c)
        yield [a, b, c]


@pytest.fixture
async def clients(three: list[Server]) -> AsyncIterator[list[Client]]:
    """One on each server."""
    connected = [await nats.connect(server.client_url, allow_reconnect=False) for server in three]
    yield connected
    for client in connected:
        await client.close()


async def known(subscribers: list[Client], others: list[Client]) -> None:
    """Wait until the servers of others know of all that subscribers subscribed to: a message follows it on each route."""
    for source in subscribers:
        for other in others:
            if other is not source:
                inbox = other.new_inbox()
                marker = await other.subscribe(inbox)
                while not marker.pending_msgs:
                    await source.publish(inbox, b"")
                    await source.flush()
                    await asyncio.sleep(0.005)
                await marker.unsubscribe()


async def test_messages_reach_every_server_once(clients: list[Client]) -> None:
    seen: list[list[Msg]] = [[], [], []]
    for client, mine in zip(clients, seen, strict=True):

        async def record(msg: Msg, mine: list[Msg] = mine) -> None:
            mine.append(msg)

        await client.subscribe("orders.*", cb=record)
        await client.subscribe("orders.>", cb=record)
        await client.flush()
    await known(clients, clients)
    for number, client in enumerate(clients):
        await client.publish(f"orders.{number}", b"x" * number, headers={"From": str(number)})
        await client.flush()
    await until(lambda: all(len(mine) >= 6 for mine in seen))

    for mine in seen:
        told = Counter((msg.subject, msg.data, msg.headers and msg.headers["From"]) for msg in mine)
        assert told == {(f"orders.{number}", b"x" * number, str(number)): 2 for number in range(3)}


async def test_request_is_answered_from_another_server(clients: list[Client]) -> None:
    async def answer(msg: Msg) -> None:
        await msg.respond(msg.data.upper())

    await clients[2].subscribe("echo", cb=answer)
    await clients[2].flush()
    await known(clients[2:], clients[:1])
    for number in range(50):
        reply = await clients[0].request("echo", f"word {number}".encode(), timeout=5)

        assert reply.data == f"WORD {number}".encode()


async def test_nobody_answers_anywhere(clients: list[Client]) -> None:
    with pytest.raises(NoRespondersError):
        await clients[0].request("nobody", b"", timeout=5)
    subscription = await clients[1].subscribe("somebody")
    await clients[1].flush()
    await known(clients[1:2], clients[:1])
    with pytest.raises(asyncio.TimeoutError):
        await clients[0].request("somebody", b"", timeout=0.05)
    await subscription.unsubscribe()
    await clients[1].flush()
    await known(clients[1:2], clients[:1])
    with pytest.raises(NoRespondersError):
        await clients[0].request("somebody", b"", timeout=5)


async def test_queue_group_spans_servers(clients: list[Client]) -> None:
    """Each message goes to one member; with none beside the publisher to those elsewhere, by their number."""
    members: Counter[int] = Counter()
    for number, client in ((1, clients[1]), (2, clients[2]), (2, clients[2])):

        async def take(_: Msg, number: int = number) -> None:
            members[number] += 1

        await client.subscribe("work", "group", cb=take)
        await client.flush()
    await known(clients, clients[:1])
    for _ in range(300):
        await clients[0].publish("work", b"")
    await clients[0].flush()
    await until(lambda: members.total() >= 300)

    assert members.total() == 300
    # Weights of 1 and 2: less than 50 of 300 at one third happen once in 10^10 runs.
    assert members[1] > 50
    assert members[2] > 130


async def test_member_beside_the_publisher_is_preferred(clients: list[Client]) -> None:
    members: Counter[int] = Counter()
    for number, client in enumerate(clients):

        async def take(_: Msg, number: int = number) -> None:
            members[number] += 1

        await client.subscribe("work", "group", cb=take)
        await client.flush()
    await known(clients, clients[:1])
    for _ in range(100):
        await clients[0].publish("work", b"")
    await clients[0].flush()
    await until(lambda: members.total() >= 100)

    assert members == {0: 100}
