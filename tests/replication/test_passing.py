"""Publishes that one leader passes on to the next, and their own copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamd.streams.replication import lately, ops, passing
from streamd.streams.replication.ops import Op
from streamd.streams.replication.passing import PASS
from tests.replication.nodes import until

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from streamd import Server
    from streamd._engine import Batch
    from streamd.cluster.route import Route
    from streamd.streams.stream import Stream
    from tests.replication.nodes import Nodes

pytestmark = pytest.mark.anyio


def way(nodes: Nodes, sender: str, to: str) -> Route:
    """The connection on which a server gets what another one's clients publish."""
    cluster = nodes.servers[to].cluster
    assert cluster is not None
    found = (route for route in cluster.routes.values() if cluster.carries(route) and not route.lane)
    return next(route for route in found if route.info is not None and route.info.server_name == sender)


def routes(server: Server) -> int:
    """How many connections with other servers there are, those that give way to another one included."""
    assert server.cluster is not None
    return len(server.cluster.routes)


class Hands:
    """A leader that has just begun, the one before it, and a client of the third server."""

    def __init__(self, nodes: Nodes, client: Client, stream: Stream, names: tuple[str, str, str]) -> None:
        self.nodes = nodes
        self.client = client
        self.stream = stream
        self.leader, self.before, self.third = names
        self.way = way(nodes, self.third, self.leader)

    async def passed(self, reply: str, payload: bytes) -> None:
        """The client publishes, and the leader before passes it on as well; returns once that has arrived."""
        taken: list[Batch | None] = []
        tap = self.nodes.replication(self.third).services.bus.collect(["pass"], lambda: taken.append(tap.take()))
        await self.client.publish("pass", payload, reply=reply)
        await self.client.flush()
        tap.close()
        (batch,) = taken
        assert batch is not None
        replication = self.nodes.replication(self.before)
        entry = ops.encode(0, [Op(ops.PUBLISH, self.stream.uid, batch.encode())])
        group = replication.meta.state.streams[self.stream.name].group
        answers: list[bytes | None] = []
        to = self.nodes.replication(self.leader).net.node
        replication.net.call(to, PASS, group.encode() + b"\0" + entry, answers.append, timeout_ns=5_000_000_000)
        await until(lambda: answers == [b""])


@pytest.fixture
async def hands(shared: Nodes, monkeypatch: pytest.MonkeyPatch) -> Hands:
    """Of a leader that has just begun, with a client at a third server."""
    monkeypatch.setattr(lately, "LATELY_NS", 3_600_000_000_000)
    await until(
        lambda: all(routes(server) == 4 for server in shared.servers.values()), what="one connection of each kind"
    )
    js = await shared.js("a")
    await js.add_stream(name="PASS", subjects=["pass"], num_replicas=3)
    await shared.led("PASS")
    leader = await shared.step_down(await shared.client("a"), "PASS")
    third, before = (name for name in "abc" if name != leader)
    return Hands(shared, await shared.client(third), shared.held(leader, "PASS"), (leader, before, third))


async def test_own_copy_that_comes_later_counts_once(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed on comes by another connection than the message itself, and may be quicker: it waits for that."""
    monkeypatch.setattr(passing, "HEARD_NS", 3_600_000_000_000)
    client, stream = hands.client, hands.stream
    acks: list[Msg] = []

    async def note(ack: Msg) -> None:
        acks.append(ack)

    await client.subscribe("acks.*", cb=note)
    count = stream.state.messages
    for number in range(1, 4):
        hands.way.transport.pause_reading()
        await hands.passed(f"acks.{number}", b"once")
        hands.way.transport.resume_reading()
        await until(lambda number=number: len(acks) == number)  # type: ignore[misc]
    # Of what isn't passed on, two that are equal in every part are two.
    for _ in range(2):
        await client.publish("pass", b"once", reply="acks.9")
        await client.flush()
    await until(lambda: len(acks) == 5)
    assert stream.state.messages == count + 5
    assert (await hands.nodes.alike())["PASS"] == count + 5


async def test_a_server_that_hangs_is_not_waited_for(hands: Hands) -> None:
    """What came to the leader before is stored though the third server doesn't answer."""
    stream = hands.stream
    count = stream.state.messages
    hands.way.transport.pause_reading()
    await hands.passed("acks.1", b"alone")
    await until(lambda: stream.state.messages == count + 1)
    # The message itself is too late to be known for the same.
    hands.way.transport.resume_reading()
    await until(lambda: stream.state.messages == count + 2)
