"""Where publishes wait, and what became of them in a work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd._engine import Admission, Batch
    from streamd.streams.stream import Stream


class Source(Protocol):
    """Where publishes wait."""

    def take(self, limit_bytes: int) -> Iterable[tuple[Stream, Batch]]:
        """Up to about so many bytes of them, with the streams that they belong to."""


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that waits for the commits before it: a stream's limits may have to remove for it what is neither in the log nor
    in the batch."""

    stream: Stream
    batch: Batch

    def take(self, limit_bytes: int) -> Iterable[tuple[Stream, Batch]]:
        """The batch."""
        return [(self.stream, self.batch)]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a work adds to a stream."""

    stream: Stream
    admission: Admission
    first_seq: int  # of the stream then
