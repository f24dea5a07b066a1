"""Who of a cluster answers a request of the JetStream API.

Every server hears every request. What is about one stream is answered by the server that leads it; what is about all of them,
or makes, changes and removes streams, by the meta leader. While no leader is known the servers that may lead next keep the
request: who does answers its own copy, the others drop theirs, and if that takes too long, all say so. What comes to a leader
that can't answer it yet, as the stream has yet to come or is about to go, waits there and goes on to the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.api.errors import STREAM_OFFLINE, ApiError
from streamd.streams.journals import META
from streamd.streams.replication.handing import Handing
from streamd.streams.replication.keeping import Keeping
from streamd.streams.replication.leading import NO_LEADER, PATIENCE_NS
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.group import Group
    from streamd.raft.net import NodeId
    from streamd.state.meta import Assignment
    from streamd.streams.api import Call
    from streamd.streams.replication.node import Replication
    from streamd.streams.stream import Stream

TOO_MANY: Final = "too many requests wait here already"
#: What the meta leader has agreed on is known everywhere by then.
NEW_NS: Final = 500_000_000
#: Copies of a request get to all servers within so long, unless one of them hangs.
LATE_NS: Final = 1_000_000_000
#: Requests that the meta leader answers; all others with a stream in their subject are its leader's.
OF_META: Final = frozenset(
    {
        "stream_create",
        "stream_update",
        "stream_delete",
        "stream_names",
        "stream_list",
        "account_info",
        "stream_peer_remove",
        "meta_stepdown",
        "server_remove",
    }
)


class Serving:
    """The part of the API that says whether a request is for this server."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._jetstream = replication.jetstream
        self._keeping = Keeping(replication.services.clock, replication.jetstream.api.serve)
        self._handing = Handing(replication, replication.jetstream.api.serve_handed)

    def serves(self, call: Call) -> bool:
        """Whether this server answers a request now. Errors: ApiError if nobody could, or not in time."""
        meta = self._replication.meta
        if not (call.known or self._handing.hears(call)):
            return False
        call.known = True
        if call.endpoint.handler in OF_META:
            here = meta.leading or self._keep_for_meta(call)
        elif not call.arguments:
            here = meta.leading
        else:
            here = self._serves_stream(call, call.arguments[0])
        return here and not self._left_to_another(call) and self._handing.first(call)

    def _left_to_another(self, call: Call) -> bool:
        """Whether another server has led since a request is kept here, perhaps unnoticed: that one has had its own copy."""
        if call.kept is None or call.held:
            return False
        group = self._group_of(call)
        return group is not None and group.name == call.kept.group and group.term_before != call.kept.term

    def _group_of(self, call: Call) -> Group | None:
        """Whose leader answers a request; None if no other server could."""
        if call.endpoint.handler not in OF_META and call.arguments:
            stream = self._jetstream.streams.get(call.arguments[0])
            if stream is not None:
                return None if stream.replica is None else stream.replica.group
        return self._replication.meta.group

    def _serves_stream(self, call: Call, name: str) -> bool:
        replication = self._replication
        stream = self._jetstream.streams.get(name)
        if stream is not None and stream.serves:
            return True
        if stream is not None and stream.partial:
            stream = None
        wanted = replication.meta.state.streams.get(name)
        if wanted is not None and replication.name not in wanted.names:
            return self._serves_elsewhere(call, wanted)
        if wanted is not None:
            group = wanted.group
            call.held = call.held or self._is_new(wanted)
        elif stream is not None:
            group = stream.group
        else:
            return self.is_sure(call) if replication.meta.leading else self._keep_for_meta(call)
        replica = replication.replicas.get(group)
        if replica is None and group:
            return self._wait(call, group, "")  # who has it says so if it takes too long
        if replica is None or replica.leading:
            call.held = True
            if stream is None:
                return self._wait(call, group, f"stream {name} isn't here yet")
            return self._wait(call, group, f"stream {name} is being {'taken up' if stream.leads else 'moved'}")
        lead, leader = replica.lead, replica.group.leader
        # Others leave it to this server as long as they don't know that it leads no more, or that the stream has moved.
        call.held = call.held or leader == replica.group.node or (stream is not None and self._led_before(stream))
        if leader in (None, replica.group.node):
            return self._keep(call, group, lead.leaderless_ns, lead.why)
        return self._left_to(call, [leader], replica.group)

    def _is_new(self, wanted: Assignment) -> bool:
        """Whether others may not know of a stream yet, and leave what is asked about it to the meta leader, which is here."""
        replication = self._replication
        return replication.meta.leading and replication.services.clock.now_ns() - wanted.created_ns < NEW_NS

    def _led_before(self, stream: Stream) -> bool:
        """Whether a stream that moves was led from here."""
        return stream.frozen and (not stream.group or (stream.replica is not None and stream.replica.leading))

    def _serves_elsewhere(self, call: Call, wanted: Assignment) -> bool:
        replication = self._replication
        if not self.alive() & {*wanted.names, *wanted.moving_names}:
            if replication.meta.leading:
                raise STREAM_OFFLINE()
            return self._keep_for_meta(call)
        if replication.name in wanted.moving_names:
            # Where it is, it is answered; what was handed to this server waits until it is here.
            return call.held and self._wait(call, wanted.group, "")
        call.held = call.held or replication.mover.left(wanted.uid) or self._is_new(wanted)
        linked = replication.net.linked()
        nodes = [node for name in wanted.names if (node := replication.node_named(name)) in linked]
        return self._left_to(call, nodes, None)

    def _left_to(self, call: Call, nodes: list[NodeId], group: Group | None) -> bool:
        """Others answer a request; if it came to the leader, they may not have kept it. Nor may the leader of a group that this
        one has led, if its own copy came before it led. Returns False."""
        led = bool(call.message.reply) and group is not None and group.led_within(LATE_NS)
        if call.held or led:
            if call.kept is not None and self._now_ns() - call.kept.since_ns > PATIENCE_NS:
                raise unavailable(f"{self._what(call)} is led by a server that can't be reached from here")
            self._handing.to(call, nodes, lambda: self._hold(call, self._group_of(call)))
        return False

    def _what(self, call: Call) -> str:
        """What a request is about, for people."""
        meta = call.endpoint.handler in OF_META or not call.arguments
        return "the meta group" if meta else f"stream {call.arguments[0]}"

    def is_sure(self, call: Call) -> bool:
        """Whether a quorum has confirmed that this server leads, for this request; else it is served again once it has."""

        def serve() -> None:
            call.confirmed = True
            self._jetstream.api.serve(call)

        if not call.confirmed:
            self.surely(serve)
        return call.confirmed

    def surely(self, then: Callable[[], None]) -> None:
        """Go on if this server still leads the meta group: another may, unnoticed, and know of streams that were made since.
        That one has heard the request as well."""
        self._replication.meta.group.confirm(lambda leads: then() if leads else None)

    def alive(self) -> set[str]:
        """Names of servers that can be reached."""
        return {name_of(node) for node in self._replication.net.linked()} | {self._replication.name}

    # requests that wait

    def _now_ns(self) -> int:
        return self._replication.services.clock.monotonic_ns()

    def _keep_for_meta(self, call: Call) -> bool:
        group = self._replication.meta.group
        if group.leader not in (None, group.node):
            return self._left_to(call, [group.leader], group)
        call.held = call.held or group.leader is not None
        return self._keep(call, META, self._replication.meta_leaderless_ns(), self._replication.why_no_meta)

    def _wait(self, call: Call, group: str, why: str) -> bool:
        """Look at it again until it has waited for too long; without a reason nobody is told of that then."""
        call.since_ns = call.since_ns or self._now_ns()
        for_ns = self._now_ns() - call.since_ns
        if not why and for_ns > PATIENCE_NS:
            return False
        return self._keep(call, group, for_ns, lambda: why)

    def _keep(self, call: Call, group: str, for_ns: int, why: Callable[[], str]) -> bool:
        """Look at a request again while something is missing. Returns False. Errors: ApiError when that takes too long."""
        if for_ns > PATIENCE_NS:
            raise unavailable(why())
        if not self._keeping.keep(call, group, self._last_term(group)):
            raise unavailable(TOO_MANY)
        return False

    def _last_term(self, group: str) -> int:
        if group == META:
            return self._replication.meta.group.last_term
        replica = self._replication.replicas.get(group)
        return 0 if replica is None else replica.group.last_term

    def look(self, group: str) -> None:
        """Who leads a group has changed."""
        self._keeping.look(group)

    def ask_again(self, call: Call) -> None:
        """Serve a request once more that this server can't answer as it leads no more, or let the next leader do so."""
        call.held = True
        self._handing.undone(call)
        group = self._group_of(call)
        self._hold(call, group)
        if group is not None and group.leader not in (None, group.node):
            self._keeping.look(group.name)

    def _hold(self, call: Call, group: Group | None) -> None:
        name = "" if group is None else group.name
        if not self._keeping.keep(call, name, self._last_term(name)):
            call.fail(unavailable(TOO_MANY))

    def close(self) -> None:
        """The server stops."""
        self._keeping.close()


def unavailable(why: str) -> ApiError:
    """503, with the reason."""
    return ApiError(503, NO_LEADER, f"JetStream system temporarily unavailable: {why}")
