"""Publishes that one leader passes on to the next, and their own copies."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from streamd._engine import Engine
from streamd.sim.clock import Life, NodeClock, Time
from streamd.streams.replication import lately, ops, passing
from streamd.streams.replication.handing import REQUEST
from streamd.streams.replication.lately import Lately
from streamd.streams.replication.ops import Op
from streamd.streams.replication.passing import PASS
from streamd.streams.replication.reads import READ
from streamd.streams.replication.request import Request
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


def test_what_was_published_lately_is_of_later_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the leader that passes on had proposed itself says nothing of what it passes on, be it the same."""
    monkeypatch.setattr(lately, "LATELY_BYTES_MAX", 500)
    time = Time()
    found = Lately(NodeClock(time, Life()))
    engine = Engine()
    tap = engine.tap("A")
    engine.tap_add(tap, "x")

    def batch(payload: bytes) -> Batch:
        engine.publish("A", "x", payload)
        taken = engine.take(tap)
        assert taken is not None
        return taken

    def of(since: int) -> list[bytes]:
        return [bytes(payload) for each in found.of(1, since) for payload in each.payloads()]

    assert not found.known
    for term in (3, 4, 6):
        found.reached(term)
        found.reached(term)
        found.add(1, batch(b"%d" % term))
        found.add(2, batch(b"other"))
        time.run(time.now_ns + lately.LATELY_NS - 1)
    assert [of(since) for since in (2, 3, 4, 6)] == [[b"3", b"4", b"6"], [b"4", b"6"], [b"6"], []]
    time.run(time.now_ns + 2)
    assert (found.known, of(0)) == (False, [])
    found.add(1, batch(b"6"))
    found.reached(6)
    assert (found.known, of(0)) == (False, [])
    found.reached(7)
    assert (found.known, of(0)) == (True, [])
    found.add(1, batch(b"7" * 1_000))
    assert (found.known, of(0)) == (False, [])


def way(nodes: Nodes, sender: str, to: str) -> Route:
    """The connection on which a server gets what another one's clients publish."""
    cluster = nodes.servers[to].cluster
    assert cluster is not None
    found = (route for route in cluster.routes.values() if cluster.carries(route) and not route.lane)
    return next(route for route in found if route.info is not None and route.info.server_name == sender)


def routes(server: Server) -> int:
    """How many connections with other servers there are, those that are one too many included."""
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

    async def handed(self, what: str, payload: bytes) -> None:
        """The leader before asks the leader; returns once that has answered the call."""
        answers: list[bytes | None] = []
        to = self.nodes.replication(self.leader).net.node
        self.nodes.replication(self.before).net.call(to, what, payload, answers.append, timeout_ns=5_000_000_000)
        await until(lambda: answers)
        assert answers[0] in (b"", b"ok")

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
        term = self.nodes.replication(self.leader).replicas[group].group.term - 1
        await self.handed(PASS, b"\0".join([group.encode(), b"%d" % term, entry]))


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


@pytest.mark.parametrize("what", [REQUEST, READ])
async def test_an_answer_comes_after_the_news_of_who_listens(
    what: str, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that a server hands on may be quicker than all that its client says on its own way."""
    monkeypatch.setattr(passing, "HEARD_NS", 3_600_000_000_000)
    client, inbox = hands.client, f"late.{what}"
    await client.publish("pass", b"there")
    await client.flush()
    await until(lambda: hands.stream.committed_seq)
    subject = "$JS.API.STREAM.MSG.GET.PASS" if what == REQUEST else "$JS.API.DIRECT.GET.PASS"
    request = Request(subject, inbox, b"", b'{"last_by_subj":"pass"}')
    hands.way.transport.pause_reading()
    subscription = await client.subscribe(inbox)
    if what == REQUEST:
        await client.publish(subject, request.payload, reply=inbox)
    await client.flush()
    await hands.handed(what, request.encode() if what == REQUEST else b"PASS\0" + request.encode())
    hands.way.transport.resume_reading()
    answer = await subscription.next_msg(10)
    assert b"there" in answer.data or base64.b64encode(b"there") in answer.data
    # Once, though its own copy came as well.
    await client.request("$JS.API.STREAM.INFO.PASS", timeout=10)
    assert subscription.pending_msgs == 0
