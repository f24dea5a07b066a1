"""Publishes that a leader has taken in but not proposed when it ceases to lead: they go to the next leader.

In the walk:  leading (at the one before) → a call → here → proposals (at the next one).
Guarantee:    a message is stored once though both may have it: whoever stands for leader listens from then on, and the one
              before listens until it hears of that. What both have is the same in every part, and counts once. What is passed
              on may be quicker than the same message on its own way: it waits until that way is empty. If the next leader
              leads no more by then, what the log hasn't had since goes on to the one after it.
Not here:     channels of NATS Streaming, whose service keeps what its clients send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd._engine import Batch
from streamd.streams.replication import ops
from streamd.streams.replication.ops import Op
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.clock import Timer
    from streamd.raft.net import NodeId
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

PASS: Final = "group.publishes"
TIMEOUT_NS: Final = 1_000_000_000
#: Other servers are waited for so long: one that sleeps or hangs may have sent a message to one of the two leaders so far.
HEARD_NS: Final = 250_000_000
#: A leader that hasn't applied yet what came before is asked again so often, until the timeout.
AGAIN_NS: Final = 5_000_000


class Passing:
    """Both ends."""

    def __init__(self, replication: Replication, echo: Callable[[Callable[[], None]], int]) -> None:
        self._replication = replication
        self._echo = echo
        self._net = replication.net
        self._clock = replication.services.clock
        self._net.serve(PASS, self._serve)

    def on(self, replica: Replica, term: int, publishes: list[tuple[Stream, Batch]]) -> None:
        """Give publishes that came to the leader of a term to who leads the group now."""
        leader = replica.group.leader
        for stream, batch in publishes:
            if leader is not None and stream.channel is None:
                entry = ops.encode(0, [Op(ops.PUBLISH, stream.uid, batch.encode())])
                self._send(leader, replica.name, term, entry)

    def _send(self, leader: NodeId, group: str, term: int, entry: bytes) -> None:
        payload = b"\0".join([group.encode(), b"%d" % term, entry])
        self._net.call(leader, PASS, payload, lambda _answer: None, timeout_ns=TIMEOUT_NS)

    def _serve(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        answer(b"")
        name, term, entry = payload.split(b"\0", 2)
        replica = self._replication.replicas.get(name.decode())
        if replica is not None:
            self._take(replica, int(term), entry, self._clock.monotonic_ns() + TIMEOUT_NS)

    def _take(self, replica: Replica, term: int, entry: bytes, until_ns: int) -> None:
        leader = replica.group.leader
        if replica.leading:
            self.once_heard(lambda: self._heard(replica, term, entry, until_ns))
        elif leader not in (None, replica.group.node):
            # This server has led for a moment: what the log has of this is nothing to pass on.
            self.on(replica, term, replica.proposals.unproposed(term, _publishes(replica, entry)))
        elif self._clock.monotonic_ns() < until_ns:
            self._clock.call_later(AGAIN_NS, lambda: self._take(replica, term, entry, until_ns))

    def once_heard(self, call: Callable[[], None]) -> Timer:
        """Call once all that other servers had sent before is here, or has taken too long. Returns the timer of the latter."""
        waiting = 0

        def heard() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                timer.cancel()
                # What came with the last answer is dispatched by then.
                self._clock.call_soon(call)

        def late() -> None:
            nonlocal waiting
            waiting = 0
            call()

        timer = self._clock.call_later(HEARD_NS, late)
        waiting = self._echo(heard)
        if not waiting:
            timer.cancel()
            self._clock.call_soon(call)
        return timer

    def _heard(self, replica: Replica, term: int, entry: bytes, until_ns: int) -> None:
        """Nothing is on its way any more that is as old as the entry."""
        if replica.leading:
            replica.proposals.passed(term, _publishes(replica, entry))
        else:
            self._take(replica, term, entry, until_ns)


def _publishes(replica: Replica, entry: bytes) -> list[tuple[Stream, Batch]]:
    found = [(replica.owners.get(op.uid), Batch.decode(op.body)) for op in ops.decode(entry)[1]]
    return [(owner, batch) for owner, batch in found if isinstance(owner, Stream)]
