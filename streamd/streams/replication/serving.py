"""Who of a cluster answers a request of the JetStream API.

Every server hears every request. What is about one stream is answered by the server that leads it; what is about all of them,
or makes, changes and removes streams, by the meta leader. While there is none, or a stream is on its way to where it is served,
the servers that may serve it next keep the request: who does answers its own copy, and if that takes too long, all say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.api.errors import STREAM_OFFLINE, ApiError
from streamd.streams.replication.leading import NO_LEADER, PATIENCE_NS
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import Message
    from streamd.state.meta import Assignment
    from streamd.streams.api import Call
    from streamd.streams.replication.node import Replication

#: Requests that are kept, and how often they are looked at.
KEPT_MAX: Final = 10_000
AGAIN_NS: Final = 50_000_000
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
        self._kept = 0

    def serves(self, call: Call) -> bool:
        """Whether this server answers a request now. Errors: ApiError if nobody could, or not in time."""
        replication = self._replication
        if call.endpoint.handler in OF_META:
            return replication.meta.leading or self._keep_for_meta(call)
        if not call.arguments:
            return replication.meta.leading
        name = call.arguments[0]
        stream = self._jetstream.streams.get(name)
        if stream is not None and stream.serves:
            return True
        wanted = replication.meta.state.streams.get(name)
        if stream is None or stream.partial:
            return self._serves_elsewhere(call, wanted)
        if stream.frozen or stream.leads or stream.replica is None:
            return self._wait(call, f"stream {name} is being {'taken up' if stream.leads else 'moved'}")
        lead = stream.replica.lead
        return self._keep(call, lead.leaderless_ns, lead.why)

    def _serves_elsewhere(self, call: Call, wanted: Assignment | None) -> bool:
        replication = self._replication
        if wanted is None:
            return self.is_sure(call) if replication.meta.leading else self._keep_for_meta(call)
        if replication.name in (*wanted.names, *wanted.moving_names):
            # Who has it, or is to lead it, says so if it takes too long.
            replica = replication.replicas.get(wanted.group)
            decides = wanted.names == (replication.name,) or (replica is not None and replica.leading)
            return self._wait(call, f"stream {wanted.name} isn't here yet" if decides else "")
        if not self.alive() & {*wanted.names, *wanted.moving_names}:
            if replication.meta.leading:
                raise STREAM_OFFLINE()
            return self._keep_for_meta(call)
        return False

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

    def _keep_for_meta(self, call: Call) -> bool:
        return self._keep(call, self._replication.meta_leaderless_ns(), self._replication.why_no_meta)

    def _wait(self, call: Call, why: str) -> bool:
        """Look at it again until it has waited for too long; without a reason nobody is told of that then."""
        now_ns = self._replication.services.clock.monotonic_ns()
        call.since_ns = call.since_ns or now_ns
        if not why and now_ns - call.since_ns > PATIENCE_NS:
            return False
        return self._keep(call, now_ns - call.since_ns + 1, lambda: why)

    def _keep(self, call: Call, for_ns: int, why: Callable[[], str]) -> bool:
        """Look at a request again while something is missing. Returns False. Errors: ApiError when that takes too long."""
        if for_ns > PATIENCE_NS:
            raise unavailable(why())
        if for_ns and self._kept < KEPT_MAX:
            self._kept += 1
            self._replication.services.clock.call_later(AGAIN_NS, lambda: self._serve_again(call))
        return False

    def _serve_again(self, call: Call) -> None:
        self._kept -= 1
        self._jetstream.api.serve(call)

    def ask_again(self, message: Message) -> None:
        """Tell all servers of a request that one which leads no more had begun: whoever leads next serves it."""
        self._replication.services.bus.publish(
            message.subject, message.payload, reply=message.reply, headers=message.headers
        )


def unavailable(why: str) -> ApiError:
    """503, with the reason."""
    return ApiError(503, NO_LEADER, f"JetStream system temporarily unavailable: {why}")
