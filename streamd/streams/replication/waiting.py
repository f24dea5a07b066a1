"""Pull requests that wait at leaders of groups, as replicas know of them: what a leader that dies can't tell, the next does.

Guarantee:  who waits at a leader for longer than LOOK_NS hears of the next one (409 Leadership Change), and can ask there.
Not here:   a leader that steps down, which tells so itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from streamd.streams.kept_pulls import LEADERSHIP_CHANGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.clock import Timer
    from streamd.raft.net import NodeId
    from streamd.streams.consumer import Consumer
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

WAITING: Final = "group.waiting"
LOOK_NS: Final = 500_000_000
TIMEOUT_NS: Final = 1_000_000_000
#: Consumers that one call tells of.
CALL_MAX: Final = 500


class Waiting:
    """Both ends."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._net = replication.net
        self._clock = replication.services.clock
        self._watched: dict[Consumer, list[str]] = {}  # with the inboxes that the others have heard of
        self._timer: Timer | None = None
        self._known: dict[str, dict[tuple[int, str], list[str]]] = {}  # by group, stream and consumer
        self._net.serve(WAITING, self._serve)

    # the leader

    def note(self, consumer: Consumer) -> None:
        """Requests came to a consumer of a group that this server leads."""
        if consumer not in self._watched:
            self._watched[consumer] = []
            self._plan()

    def _plan(self) -> None:
        if self._timer is None and self._watched:
            self._timer = self._clock.call_later(LOOK_NS, self._look)

    def _look(self) -> None:
        self._timer = None
        changed: dict[str, list[tuple[int, str, list[str]]]] = {}
        for consumer, told in list(self._watched.items()):
            waiting = [] if consumer.closed else consumer.state.waiting()
            if waiting:
                self._watched[consumer] = waiting
            else:
                del self._watched[consumer]
            if waiting != told:
                row = (consumer.stream.uid, consumer.name, waiting)
                changed.setdefault(consumer.stream.group, []).append(row)
        for group, rows in changed.items():
            replica = self._replication.replicas.get(group)
            for first in range(0, len(rows), CALL_MAX) if replica is not None and replica.leading else ():
                self._tell(group, {"rows": rows[first : first + CALL_MAX]})
        self._plan()

    def told(self, replica: Replica) -> None:
        """Who waited here has heard that another server leads."""
        if any(consumer.stream.group == replica.name and told for consumer, told in self._watched.items()):
            self._tell(replica.name, {"none": True, "rows": []})
        for consumer in [consumer for consumer in self._watched if consumer.stream.group == replica.name]:
            del self._watched[consumer]

    def _tell(self, group: str, fields: dict[str, Any]) -> None:
        payload = json.dumps({"group": group, **fields}).encode()
        replica = self._replication.replicas[group]
        for node in sorted({*replica.group.config.voters} & self._net.linked()):
            self._net.call(node, WAITING, payload, lambda _answer: None, timeout_ns=TIMEOUT_NS)

    # the others

    def _serve(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        fields = json.loads(payload)
        known = self._known.setdefault(fields["group"], {})
        if fields.get("none"):
            known.clear()
        for uid, name, waiting in fields["rows"]:
            if waiting:
                known[uid, name] = waiting
            else:
                known.pop((uid, name), None)
        answer(b"ok")

    def end(self, replica: Replica) -> None:
        """This server leads a group from now on, and serves it: who waited at the one before hears of it."""
        known = self._known.pop(replica.name, {})
        bus, headers = self._replication.services.bus, f"NATS/1.0 {LEADERSHIP_CHANGE}\r\n\r\n".encode()
        for (uid, _name), waiting in known.items():
            owner = replica.owners.get(uid)
            for inbox in waiting if owner is not None else ():
                bus.publish(inbox, b"", headers=headers)
        if known:
            self._tell(replica.name, {"none": True, "rows": []})
            bus.flush_soon()
