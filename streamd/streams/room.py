"""How much the streams of one kind of storage may still hold: the server's `max_mem` and `max_file`.

Guarantee:  never over the bound by more than one batch. What streams hold is added up only when the room that was left at
            the last look has been used, so a batch costs a subtraction.
Source:     nats-server 2.15.2: a stream may reserve (`max_bytes`) what others have not, and publishes beyond the bound are
            answered with 10023.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamd.streams.stream import Stream


class Room:
    """A bound in bytes for all memory streams, or for all stored ones; below zero there is none."""

    def __init__(self, bytes_max: int, streams: Callable[[], Iterable[Stream]]) -> None:
        """`streams`: those of this kind, as they are now."""
        self.bytes_max = bytes_max
        self._streams = streams
        self._left = 0

    def take(self, size_bytes: int) -> bool:
        """Whether so much more may be stored; it counts as stored then."""
        if self.bytes_max < 0:
            return True
        self._left -= size_bytes
        if self._left < 0:
            self._left = self.bytes_max - sum(stream.state.bytes for stream in self._streams()) - size_bytes
        return self._left >= 0

    def reservable(self, max_bytes: int, *, besides: Stream | None = None) -> bool:
        """Whether a stream may have `max_bytes`, beside what the others have reserved."""
        if self.bytes_max < 0 or max_bytes <= 0:
            return True
        reserved = sum(max(stream.config.max_bytes, 0) for stream in self._counted(besides))
        return reserved + max_bytes <= self.bytes_max

    def _counted(self, besides: Stream | None) -> Iterable[Stream]:
        # A channel's bound comes from a default of a gigabyte: it limits, it doesn't claim.
        return (stream for stream in self._streams() if stream is not besides and stream.channel is None)
