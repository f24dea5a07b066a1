"""What the meta group wants of streams, compared with what is here: what is missing is made, what has gone is removed.

In the walk:  an entry of the meta group → here, on every server → the leader of a stream's group proposes, a stream without
              replicas is made on its server.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamd.streams.replication import ops
from streamd.streams.replication.bringing import lay_aside
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from streamd.api.errors import ApiError
    from streamd.state.meta import Assignment
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

#: What is to be removed isn't made for so long; after that the meta leader has come to nothing.
GIVEN_UP_NS: Final = 10_000_000_000
FOR_EVER: Final = 1 << 62


class Assigned:
    """The streams that this server has a part in."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._jetstream = replication.jetstream
        self._clock = replication.services.clock
        self._opening: set[int] = set()  # uids whose making or change is under way
        self._given_up: dict[int, int] = {}  # uids that are to be removed again, and until when that is waited for

    def look_at(self, wanted: Assignment) -> None:
        """Compare one stream."""
        if self._replication.meta.state.by_uid.get(wanted.uid) is not wanted:
            return
        if wanted.moving:
            self._replication.mover.look_at(wanted)
            return
        if not wanted.group:
            if wanted.names == (self._replication.name,):
                self._look_at_own(wanted)
            return
        replica = self._replication.replicas.get(wanted.group)
        if replica is None or not replica.leading:
            return
        stream = replica.owners.get(wanted.uid)
        if wanted.move and (stream is None or (isinstance(stream, Stream) and stream.frozen)):
            self._replication.mover.look_for(wanted)
        elif stream is None:
            self._propose(replica, ops.OPEN, wanted)
        elif isinstance(stream, Stream) and stream.version < wanted.version:
            self._propose(replica, ops.CONFIGURE, wanted)
        else:
            self._replication.answers.made_before(wanted.uid, replica.lead.lost_ns)

    def _propose(self, replica: Replica, kind: int, wanted: Assignment) -> None:
        if wanted.uid in self._opening:
            return
        self._opening.add(wanted.uid)
        definition = {
            "name": wanted.name,
            "created": wanted.created_ns,
            "config": wanted.config,
            "group": replica.name,
            "uid": wanted.uid,
            "version": wanted.version,
        }

        def finish(result: tuple[Any, ...], error: Exception | None) -> None:
            self._opening.discard(wanted.uid)
            if error is None:
                self._replication.answers.made(wanted.uid, result[1] if len(result) > 1 else None)
                self.look_at(wanted)

        replica.proposals.alone(ops.defined(kind, wanted.uid, definition), finish)

    def _look_at_own(self, wanted: Assignment) -> None:
        """A stream without other replicas that lives here."""
        jetstream = self._jetstream
        stream = jetstream.streams.get(wanted.name)
        if wanted.uid in self._opening or self._given_up.get(wanted.uid, 0) > self._clock.monotonic_ns():
            return
        if stream is not None and stream.uid == wanted.uid and stream.frozen:
            self._replication.mover.moved(wanted)
        elif stream is None or stream.uid != wanted.uid:
            if self._replication.bringing.take(wanted, partial(self._made_own, wanted, None)):
                self._opening.add(wanted.uid)
                return
            if stream is not None and stream.alone:
                lay_aside(jetstream, stream, "name")
            elif stream is not None:
                self.remove(stream)
            self._opening.add(wanted.uid)
            jetstream.create_stream(
                jetstream.config_of(wanted.config),
                partial(self._created_own, wanted),
                uid=wanted.uid,
                created_ns=wanted.created_ns,
                version=wanted.version,
            )
        elif stream.version < wanted.version:
            self._update_own(wanted, stream)

    def _update_own(self, wanted: Assignment, stream: Stream) -> None:
        before, stream.version = stream.version, wanted.version

        def updated(error: ApiError | None) -> None:
            if error is not None:
                stream.version = before
            self._made_own(wanted, stream, error)

        self._opening.add(wanted.uid)
        self._jetstream.update_stream(stream, self._jetstream.config_of(wanted.config), updated)

    def _created_own(self, wanted: Assignment, stream: Stream, error: ApiError | None) -> None:
        if error is None:
            self._made_own(wanted, stream, None)
            return

        def told(removed: bool) -> None:
            if removed:
                # This server may not hear of that before it has room.
                self._given_up[wanted.uid] = FOR_EVER
                self._replication.answers.answered(wanted.uid)
                self._opening.discard(wanted.uid)
            else:
                self._made_own(wanted, None, error)

        self._replication.placing.failed(wanted, error, told)

    def _made_own(self, wanted: Assignment, _stream: Stream | None, error: ApiError | None) -> None:
        self._opening.discard(wanted.uid)
        self._replication.answers.made(wanted.uid, error)
        if error is None:
            self.look_at(wanted)
        # Without room it would fail again at once, and again: the next look at everything tries it.

    def give_up(self, uid: int, name: str) -> bool:
        """The meta leader is about to remove a stream that this server alone was to have: don't make it meanwhile. Returns
        False if it is here, or is being made."""
        held = (self._jetstream.streams.get(name), self._jetstream.aside.get(name))
        if uid in self._opening or any(stream is not None and (stream.uid == uid or stream.alone) for stream in held):
            return False
        now_ns = self._clock.monotonic_ns()
        self._given_up = {each: until_ns for each, until_ns in self._given_up.items() if until_ns > now_ns}
        self._given_up[uid] = now_ns + GIVEN_UP_NS
        return True

    def remove_uid(self, uid: int) -> None:
        """A stream was deleted: nothing of it stays here."""
        self._given_up.pop(uid, None)
        for stream in [each for each in self._jetstream.streams.values() if each.uid == uid]:
            for consumer in stream.consumers if stream.leads else ():
                # That the stream is no more tells the meta leader.
                self._jetstream.services.advisories.consumer_action(stream.name, consumer, "delete")
            self.remove(stream)

    def remove(self, stream: Stream) -> None:
        """Remove a stream from this server."""
        if stream.replica is not None:
            stream.replica.drop(stream, lambda _owner, _error: None)
        else:
            self._replication.holding.drop(stream, lambda _owner, _error: None)
