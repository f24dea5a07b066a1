"""Whether this server can do its part: with a full disk it leads nothing, and with a store that has failed it must end.

Guarantee:  who can't keep a promise makes none; what is replicated is served by others meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.streams.replication.node import Replication


class Standing:
    """What this server's store is good for."""

    def __init__(self, replication: Replication, failed: Callable[[Exception], None]) -> None:
        """`failed`: told why this server must end, and be started again."""
        self.full = False  # the last commit found no room on the disk
        self._replication = replication
        self._failed: Callable[[Exception], None] | None = failed
        replication.services.commits.refusals.was_full = self._no_room

    def fail(self, error: Exception) -> None:
        """This server can't keep what it promised, or not in this process: it ends, and its start sees to the rest."""
        failed, self._failed = self._failed, None
        if failed is not None:
            self._replication.host.close()
            failed(error)

    def look(self) -> None:
        """Once in a while."""
        replication = self._replication
        writer = replication.jetstream.writer
        if writer.failed is not None:
            # It does nothing more in this process.
            self.fail(writer.failed)
        elif self.full:
            replication.meta.try_to_store(lambda error: None if error is not None else self._set_full(False))

    def _no_room(self) -> None:
        if not self.full:
            self._replication.services.log.warning("RAFT: this server leads no group while its disk is full")
            self._set_full(True)

    def _set_full(self, full: bool) -> None:
        self.full = full
        self._replication.meta.group.can_lead(not full)
        for replica in self._replication.replicas.values():
            replica.lacks_room(full)
        # The others are told; this may be a server that is being built.
        self._replication.services.clock.call_soon(lambda: self._replication.joining.look())
