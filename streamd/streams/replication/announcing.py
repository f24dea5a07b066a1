"""Groups that have lost their quorum are told of, stream by stream, by the server that led them.

A leader that steps down doesn't know yet whether another one takes its place: that shows when there is none for some time.
Source: nats-server 2.15.2 for who tells; it tells when it steps down, which takes it longer.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from streamd.streams.found import consumer_rows
from streamd.streams.replication.leading import STEP
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

#: A group without a leader for so long has lost its quorum.
LOST_NS: Final = 2_000_000_000


class Announcing:
    """Which groups this server has led."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._led: set[str] = set()
        self._lost: deque[Stream] = deque()  # to be told of

    def look(self) -> None:
        """Once in a while."""
        for replica in self._replication.replicas.values():
            if replica.leading:
                self._led.add(replica.name)
            elif replica.name in self._led and not replica.lead.leaderless_ns:
                self._led.discard(replica.name)
            elif replica.name in self._led and replica.lead.leaderless_ns >= LOST_NS:
                self._led.discard(replica.name)
                self._tell(replica)

    def _tell(self, replica: Replica) -> None:
        log = self._replication.services.log
        log.warning("RAFT: %s: its streams are stalled", replica.lead.why())
        planned = bool(self._lost)
        self._lost.extend(owner for owner in replica.owners.values() if isinstance(owner, Stream))
        if not planned:
            self._step()

    def _step(self) -> None:
        """As with taking streams up, others have the loop between some and some more."""
        advisories = self._replication.services.advisories
        for _ in range(min(len(self._lost), STEP)):
            stream = self._lost.popleft()
            # Of consumers there are rows alone, without a leader.
            for consumer in ("", *(fields["name"] for fields, _ in consumer_rows(stream))):
                advisories.of_group(stream, "quorum_lost", consumer)
        if self._lost:
            self._replication.services.clock.call_soon(self._step)
