"""Why a publish is not stored, and telling who published it.

In the walk:  commits and the proposals of groups ask before they take a batch; a commit that failed is told here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd._engine import refuse_batch
from streamd.api.errors import INSUFFICIENT_RESOURCES, STORAGE_EXCEEDED, STREAM_NOT_FOUND, STREAM_SEALED, ApiError
from streamd.errors import CommitAbandoned, StoreError, StoreFull

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from streamd._engine import Batch
    from streamd.clock import Clock
    from streamd.core.bus import Bus
    from streamd.streams.room import Room
    from streamd.streams.stream import Stream

#: With the disk full, publishes are refused without a try for so long.
FULL_PAUSE_NS: Final = 500_000_000


class Refusals:
    """Of all streams of a server."""

    def __init__(self, bus: Bus, clock: Clock, log: logging.Logger, rooms: dict[bool, Room]) -> None:
        """`rooms`: by whether streams are in memory."""
        #: Told of every commit for which there was no room.
        self.was_full: Callable[[], None] = lambda: None
        self._bus = bus
        self._clock = clock
        self._log = log
        self._rooms = rooms
        self._full_until_ns = 0
        self._crowded = False  # whether the last batch found no room

    def why(self, stream: Stream, batch: Batch) -> ApiError | None:
        """Why nothing can be stored in a stream now."""
        if stream.closed:
            return STREAM_NOT_FOUND()
        if stream.offline is not None:
            return ApiError(503, 10077, stream.offline)
        if stream.sealed:
            return STREAM_SEALED()
        if self._clock.monotonic_ns() < self._full_until_ns and not stream.in_memory:
            return STORAGE_EXCEEDED()
        if not self._rooms[stream.in_memory].take(batch.size()):
            if not self._crowded:
                kind = "max_mem" if stream.in_memory else "max_file"
                self._log.error(
                    "JetStream holds as much as %s allows: publishes are refused until streams shrink", kind
                )
            self._crowded = True
            return INSUFFICIENT_RESOURCES()
        self._crowded = False
        return None

    def answer(self, stream: Stream, batch: Batch, error: ApiError) -> None:
        """Tell publishers that wait."""
        refuse_batch(batch, self._bus.engine, stream.name, error.code, error.err_code, error.description)

    @staticmethod
    def given_up(error: Exception) -> ApiError:
        """What publishers are told when a commit was given up before the store had it."""
        return ApiError(503, 10077, str(error if isinstance(error, StoreError) else CommitAbandoned(error)))

    def failed(self, error: StoreError) -> ApiError:
        """A commit failed. Returns what its publishers are told."""
        full = isinstance(error, StoreFull)
        now_ns = self._clock.monotonic_ns()
        if not full or now_ns >= self._full_until_ns:
            self._log.error("%s", error)
        if full:
            self._full_until_ns = now_ns + FULL_PAUSE_NS
            self.was_full()
        return STORAGE_EXCEEDED() if full else ApiError(503, 10077, str(error))
