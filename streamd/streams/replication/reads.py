"""Linearizable reads: answered by the leader, once it has made sure that it still leads and has applied all that was committed
before the question.

A request asks for that by the header `Nats-Read: linearizable`. A replica that gets one hands it to the leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.streams.records import header
from streamd.streams.replication.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.net import NodeId
    from streamd.streams.replication.node import Replication
    from streamd.streams.stream import Stream

READ: Final = "read"
TIMEOUT_NS: Final = 2_000_000_000
HEADER: Final = b"Nats-Read"
LINEARIZABLE: Final = "linearizable"


def wanted(headers: bytes) -> bool:
    """Whether a request asks for that."""
    return bool(headers) and header(headers, HEADER) == LINEARIZABLE


class Reads:
    """Both ends."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        replication.net.serve(READ, self._serve)

    def confirm(self, stream: Stream, done: Callable[[bool], None]) -> None:
        """`done` with True once a read here sees all that was acked before; with False if this server doesn't lead."""
        replica = stream.replica
        if replica is None:
            done(True)
            return

        def confirmed(leading: bool) -> None:
            if leading:
                replica.when_applied(lambda: done(True))
            else:
                done(False)

        replica.group.confirm(confirmed)

    def hand_over(self, stream: Stream, request: Request, failed: Callable[[], None]) -> None:
        """Let the leader answer a direct get."""
        assert stream.replica is not None
        leader = stream.replica.group.leader
        if leader is None or leader == stream.replica.group.node:
            failed()
            return
        payload = b"\0".join([stream.name.encode(errors="surrogateescape"), request.encode()])

        def answered(answer: bytes | None) -> None:
            if answer != b"ok":
                failed()

        self._replication.net.call(leader, READ, payload, answered, timeout_ns=TIMEOUT_NS)

    def _serve(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        name, _, request = payload.partition(b"\0")
        stream = self._replication.jetstream.streams.get(name.decode(errors="surrogateescape"))
        if stream is None or not stream.leads:
            answer(b"no")
            return
        answer(b"ok")
        # Who listens to the answer is told on the way of the clients' messages, and this may have been quicker.
        found, direct = Request.decode(request), stream.direct
        self._replication.passing.once_heard(lambda: direct.answer_linearizable(found))
