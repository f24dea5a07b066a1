"""Acks that were confirmed: which leader may send such a message again, and that the history hears who does."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from streamd.sim.clock import MS
from streamd.sim.full_world import FullWorld
from streamd.sim.history import History
from streamd.sim.network import Weather
from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from streamd._engine import Batch
    from streamd.sim.full_node import FullNode
    from streamd.streams.consumer import Consumer

CALM: Final = Weather(loss=0, duplicates=0, late=0)
#: Of the consumer that the operator makes.
ACK_WAIT_MS: Final = 1_000


def test_only_a_leader_of_before_may_send_again_what_was_confirmed() -> None:
    """Nobody has told it; the one that confirmed, and all later ones, know."""
    history = History()
    history.served(2, [7, 8], 10)
    history.served(4, [7], 20)
    history.delivered(7, b"seven", 5)
    history.confirmed(7, 30)
    history.served(5, [], 40)
    history.confirmed(7, 50)
    history.served(2, [7, 8], 60)
    history.served(3, [7], 70)
    for term in (4, 5, 6):
        with pytest.raises(Violation, match=f"message 7 is sent again in term {term}, and was confirmed by term 4"):
            history.served(term, [8, 7], 80)


def test_what_was_confirmed_comes_again_only_if_a_leader_of_before_sent_it_since() -> None:
    """For a pull from before the confirmation, or because such a leader has sent it for this pull."""
    history = History()
    history.served(2, [7], 10)
    history.served(3, [7], 20)
    history.confirmed(7, 30)
    history.delivered(7, b"seven", 25)
    with pytest.raises(Violation, match="message 7 came again, whose ack was confirmed"):
        history.delivered(7, b"seven", 40)
    history.served(2, [7], 50)
    history.delivered(7, b"seven", 40)
    history.delivered(7, b"seven", 50)
    with pytest.raises(Violation, match="message 7 came again, whose ack was confirmed"):
        history.delivered(7, b"seven", 51)


class ByHand(FullWorld):
    """Three servers whose clients are the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(3)
        monkeypatch.setattr("streamd.sim.network.NEWS", (0.0, 0.0))
        self.network.weather = CALM
        self._asked = 0
        for machine in self.machines:
            machine.offset_ns = 0
            machine.start()
        self.begin()
        self.wait(4_000)
        for number in range(3):
            self.ask(self.nodes()[0], "orders.x", b"%d" % number)
        self.wait(100)

    def ready(self) -> None:
        """Nobody works on it but the test, nor does the operator go on."""
        self.works_until_ns = 0

    def wait(self, ms: float) -> None:
        """Live on."""
        self.time.run(self.time.now_ns + int(ms * MS))

    def leading(self) -> list[FullNode]:
        """Who believes to lead the stream; the earliest term first."""
        found = [node for node in self.nodes() if consumer(node) is not None]
        return sorted(found, key=term)

    def ask(self, node: FullNode, subject: str, payload: bytes, *, answers: int = 0) -> list[tuple[str, bytes]]:
        """What comes within a moment, or until so much has come, as a disk may be slow: replies and payloads."""
        self._asked += 1
        inbox, found = f"_INBOX.test.{self._asked}", list[tuple[str, bytes]]()

        def heard(batch: Batch) -> None:
            found.extend((batch[index].reply, batch[index].payload) for index in range(len(batch)))

        node.bus.bind([inbox], heard)
        self.wait(20)
        node.bus.publish(subject, payload, reply=inbox)
        self.wait(50)
        until_ns = self.time.now_ns + 2_000 * MS
        while len(found) < answers and self.time.now_ns < until_ns:
            self.wait(1)
        return found

    def pull(self, node: FullNode) -> dict[int, str]:
        """What a pull brings: sequences, and where their acks go."""
        pulled_ns = self.time.now_ns
        body = json.dumps({"batch": 10, "expires": 10 * MS}).encode()
        found = dict[int, str]()
        for reply, payload in self.ask(node, "$JS.API.CONSUMER.MSG.NEXT.ORDERS.C", body):
            if reply:
                sequence = int(reply.split(".")[-4])
                found[sequence] = reply
                self.history.delivered(sequence, payload, pulled_ns)
        return found

    def confirm(self, node: FullNode, sequence: int, reply: str) -> None:
        """Ack a message, and hear that this is safe."""
        assert self.ask(node, reply, b"+ACK", answers=1) == [("", b"")]
        self.history.confirmed(sequence, self.time.now_ns)
        self.wait(1)

    def depose(self, old: FullNode) -> FullNode:
        """Cut the leader off, which hears nothing of it. Returns the one after it."""
        others = [node for node in self.nodes() if node is not old]
        ways = [(old.machine.name, other.machine.name) for other in others]
        self.network.cut([*ways, *((b, a) for a, b in ways)], breaks=True)
        for other in others:
            self.time.after(0, partial(other.net.connected, old.net.node, None))
        while self.leading() == [old]:
            self.wait(10)
        first, second = self.leading()
        assert first is old
        return second


def consumer(node: FullNode) -> Consumer | None:
    """A server's, if it serves it."""
    return node.jetstream.streams["ORDERS"].consumers.get("C")


def term(node: FullNode) -> int:
    """That of a server's last leadership."""
    replica = node.jetstream.streams["ORDERS"].replica
    assert replica is not None
    return replica.group.led_term


def test_a_leader_that_does_not_know_of_the_next_one_sends_what_that_has_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it hears of that one, or notices that nobody answers it: from then on the ack holds everywhere."""
    with ByHand(monkeypatch) as world:
        (old,) = world.leading()
        new = world.depose(old)
        found = world.pull(new)
        assert [*found] == [1, 2, 3]
        world.confirm(new, 2, found[2])
        assert [*world.pull(old)] == [1, 2, 3]
        assert world.leading() == [old, new]

        world.network.heal()
        world.wait(ACK_WAIT_MS + 200)
        assert world.leading() == [new]
        assert [*world.pull(old)] == [1, 3]


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside one of before"])
def test_a_leader_that_forgets_what_it_has_confirmed_is_caught(monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    """Also while there is another one that may send it: it is known who does."""
    with ByHand(monkeypatch) as world:
        (leader,) = world.leading()
        if not alone:
            leader = world.depose(leader)
        world.confirm(leader, 2, world.pull(leader)[2])
        serving = consumer(leader)
        assert serving is not None
        serving.state.reset(1)
        with pytest.raises(Violation, match="message 2 is sent again in term"):
            world.pull(leader)
