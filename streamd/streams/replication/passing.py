"""Publishes that a leader has taken in but not proposed when it ceases to lead: they go to the next leader.

In the walk:  leading (at the one before) → a call → here → proposals (at the next one).
Guarantee:    a message is stored once though both may have it: whoever stands for leader listens from then on, and the one
              before listens until it hears of that. What both have is the same in every part, and counts once.
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

    from streamd.raft.net import NodeId
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

PASS: Final = "group.publishes"
TIMEOUT_NS: Final = 1_000_000_000
#: A leader that hasn't applied yet what came before is asked again so often, until the timeout.
AGAIN_NS: Final = 5_000_000


class Passing:
    """Both ends."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._net = replication.net
        self._clock = replication.services.clock
        self._net.serve(PASS, self._serve)

    def on(self, replica: Replica, publishes: list[tuple[Stream, Batch]]) -> None:
        """Give publishes to the leader of a group."""
        leader = replica.group.leader
        for stream, batch in publishes:
            if leader is not None and stream.channel is None:
                entry = ops.encode(0, [Op(ops.PUBLISH, stream.uid, batch.encode())])
                payload = b"\0".join([replica.name.encode(), entry])
                self._net.call(leader, PASS, payload, lambda _answer: None, timeout_ns=TIMEOUT_NS)

    def _serve(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        answer(b"")
        name, _, entry = payload.partition(b"\0")
        replica = self._replication.replicas.get(name.decode())
        if replica is not None:
            self._take(replica, entry, self._clock.monotonic_ns() + TIMEOUT_NS)

    def _take(self, replica: Replica, entry: bytes, until_ns: int) -> None:
        if replica.leading:
            found = [(replica.owners.get(op.uid), Batch.decode(op.body)) for op in ops.decode(entry)[1]]
            replica.proposals.passed([(owner, batch) for owner, batch in found if isinstance(owner, Stream)])
        elif replica.group.leader == replica.group.node and self._clock.monotonic_ns() < until_ns:
            self._clock.call_later(AGAIN_NS, lambda: self._take(replica, entry, until_ns))
