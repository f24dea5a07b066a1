"""Streams that a server had before it was one of a cluster: the meta group takes them in, as streams of that server alone.

Guarantee:  nothing is deleted. One whose name or subjects the cluster has already is laid aside: it is stored, not served,
            and the log says so; it is taken in once the other one is gone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd.api.errors import ApiError
from streamd.streams.failures import storage_error
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.net import NodeId
    from streamd.state.meta import Assignment, Change
    from streamd.store import Outcome, Work
    from streamd.streams.jetstream import JetStream
    from streamd.streams.replication.node import Replication
    from streamd.streams.stream import Stream

BRING: Final = "stream.bring"
TIMEOUT_NS: Final = 5_000_000_000


class Bringing:
    """Both ends: the server that has them, and the meta leader."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._jetstream = replication.jetstream
        self._net = replication.net
        self._asking: set[str] = set()
        self._net.serve(BRING, self._serve)

    # the server

    def look(self) -> None:
        """Bring what isn't known to the cluster yet."""
        replication, jetstream = self._replication, self._jetstream
        leader = replication.meta.group.leader
        if leader is None or replication.node_named(replication.name) != self._net.node:
            return
        served = [stream for stream in jetstream.streams.values() if stream.alone]
        for stream in [*served, *jetstream.aside.values()]:
            if stream.name in self._asking:
                continue
            other = replication.meta.state.streams.get(stream.name)
            if other is not None:
                if other.created_ns != stream.created_ns:
                    lay_aside(jetstream, stream, "name")
                continue
            self._asking.add(stream.name)
            fields = {"name": stream.name, "created": stream.created_ns, "config": stream.config.wire()}
            self._ask(leader, stream, json.dumps(fields).encode())

    def _ask(self, leader: NodeId, stream: Stream, payload: bytes) -> None:
        def answered(answer: bytes | None) -> None:
            self._asking.discard(stream.name)
            if answer:
                lay_aside(self._jetstream, stream, answer.decode())

        if leader == self._net.node:
            self._serve(leader, payload, answered)
        else:
            self._net.call(leader, BRING, payload, answered, timeout_ns=TIMEOUT_NS)

    def take(self, wanted: Assignment, done: Callable[[ApiError | None], None]) -> bool:
        """If the cluster has taken in a stream of this server: note that. Returns whether it is one."""
        jetstream = self._jetstream
        stream = jetstream.streams.get(wanted.name) or jetstream.aside.get(wanted.name)
        if stream is None or not stream.alone or stream.created_ns != wanted.created_ns:
            return False

        def job(work: Work) -> Callable[[Outcome], None]:
            stream.uid, stream.version = wanted.uid, wanted.version
            if stream.stream_id:
                stream.part(work).definition = stream.definition(stream.config)
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is not None and stream.stream_id:
                stream.uid = stream.version = 0  # the next look tries again
                done(storage_error(outcome.error))
                return
            if jetstream.aside.pop(stream.name, None) is not None:
                jetstream.streams[stream.name] = stream
                stream.take_up()
                stream.rows = {}
            done(None)

        self._replication.services.log.info("stream %s of this server is one of the cluster now", stream.name)
        jetstream.services.commits.at_rest(job)
        return True

    # the meta leader

    def _serve(self, node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        """Answers what is taken, empty if nothing is."""
        fields = json.loads(payload)
        meta = self._replication.meta
        if meta.leading:
            meta.serially(lambda: self._assign(name_of(node), fields, answer))
        else:
            answer(b"")

    def _assign(self, server: str, fields: dict[str, Any], answer: Callable[[bytes], None]) -> None:
        replication = self._replication
        if fields["name"] in replication.meta.state.streams:
            answer(b"name")
            return
        try:
            replication.cluster_api.check_overlap(fields["config"].get("subjects", []), None)
        except ApiError:
            answer(b"subjects")
            return
        command = {"do": "assign", **fields, "names": [server], "group": "", "reply": ""}

        def assigned(_change: Change | None) -> None:
            answer(b"")

        replication.meta.propose(command, assigned)


def lay_aside(jetstream: JetStream, stream: Stream, what: str) -> None:
    """Serve a stream from before no more, as the cluster has another one with the same name or subjects."""
    if stream.name in jetstream.aside or jetstream.streams.get(stream.name) is not stream:
        return
    del jetstream.streams[stream.name]
    jetstream.lay_aside(stream)
    jetstream.services.log.error(
        "stream %s was made before this server joined the cluster, which has another one with the same %s: it isn't "
        "served. Nothing of it was deleted: delete the other one, or start this server without a cluster block to get "
        "at it",
        stream.name,
        what,
    )
