"""New streams that can't be made where they were placed, and where there is room for others.

In the walk:  a server that has no room says so, or can't make a stream → here, at the meta leader → the stream is removed
              again, and who asked for it is told. A server with a full disk may not even have heard that it is to have it.
Guarantee:    what was removed here is made nowhere: the server that was to have it agreed that it doesn't have it.
Not here:     streams of groups, which one with room leads and makes; streams that were there before.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamd.api.errors import STORAGE_EXCEEDED, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.net import NodeId
    from streamd.state.meta import Assignment, Change
    from streamd.streams.replication.node import Replication

FAILED: Final = "stream.failed"
GIVE_UP: Final = "stream.give_up"
TIMEOUT_NS: Final = 2_000_000_000
#: An assignment that is older, by the clocks of two leaders, is that of a stream which was there.
FRESH_NS: Final = 60_000_000_000
OK: Final = b"ok"


class Placing:
    """Both ends: the server that was to have a stream, and the meta leader."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._net = replication.net
        self._busy: set[int] = set()  # uids of which a server is asked, or that are being removed
        self._net.serve(FAILED, self._serve_failed)
        self._net.serve(GIVE_UP, self._serve_give_up)

    def full(self) -> set[str]:
        """Servers without room, as far as is known here."""
        own = {self._replication.name} if self._replication.standing.full else set()
        return self._replication.joining.full() | own

    # the server

    def failed(self, wanted: Assignment, error: ApiError, done: Callable[[bool], None]) -> None:
        """A stream can't be made here. `done` hears whether the meta leader has removed it, and has told who asked for it."""
        leader = self._replication.meta.group.leader
        fields = json.dumps({"uid": wanted.uid, "error": error.wire()}).encode()
        if leader is None:
            done(False)
        elif leader == self._net.node:
            self._serve_failed(leader, fields, lambda answer: done(answer == OK))
        else:
            self._net.call(leader, FAILED, fields, lambda answer: done(answer == OK), timeout_ns=TIMEOUT_NS)

    def _serve_give_up(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        fields = json.loads(payload)
        given_up = self._replication.assigned.give_up(fields["uid"], fields["name"])
        answer(OK if given_up else b"")

    # the meta leader

    def look(self) -> None:
        """Once in a while, and when it turns out that a server has no room."""
        full = self.full()
        if not full or not self._replication.meta.leading:
            return
        for uid in self._replication.answers.asked():
            wanted = self._replication.meta.state.by_uid.get(uid)
            if wanted is None or uid in self._busy or not self._is_fresh(wanted) or wanted.names[0] not in full:
                continue
            node = self._replication.node_named(wanted.names[0])
            if node is not None:
                self._busy.add(uid)
                payload = json.dumps({"uid": uid, "name": wanted.name}).encode()
                self._net.call(node, GIVE_UP, payload, partial(self._given_up, uid), timeout_ns=TIMEOUT_NS)

    def _is_fresh(self, wanted: Assignment) -> bool:
        """Whether somebody has just asked for a stream that one server alone is to have."""
        age_ns = self._replication.services.clock.now_ns() - wanted.created_ns
        as_it_was = not (wanted.group or wanted.move) and wanted.version == wanted.uid
        return as_it_was and abs(age_ns) < FRESH_NS and wanted.uid in self._replication.answers.asked()

    def _given_up(self, uid: int, answer: bytes | None) -> None:
        if answer == OK:
            self._remove(uid, STORAGE_EXCEEDED(), lambda _answer: self._busy.discard(uid))
        else:
            self._busy.discard(uid)

    def _serve_failed(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        fields: dict[str, Any] = json.loads(payload)
        self._remove(fields["uid"], ApiError(**fields["error"]), answer)

    def _remove(self, uid: int, error: ApiError, answer: Callable[[bytes], None]) -> None:
        """Answers once who asked was told, or with nothing if it isn't for this server to decide."""
        meta = self._replication.meta

        def job() -> None:
            wanted = meta.state.by_uid.get(uid)
            if wanted is None or not self._is_fresh(wanted):
                answer(b"")
            else:
                meta.propose({"do": "remove", "uid": uid}, removed)

        def removed(change: Change | None) -> None:
            if change is None or change.kind != "removed" or change.stream is None:
                answer(b"")
                return
            self._replication.services.log.warning("stream %s can't be made: %s", change.stream.name, error)
            self._replication.answers.made(uid, error)
            answer(OK)

        if meta.leading:
            meta.serially(job, lambda: answer(b""))
        else:
            answer(b"")
