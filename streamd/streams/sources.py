"""Where publishes wait, and what became of them in a work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd._engine import Admission, Batch, Engine
    from streamd.api.errors import ApiError
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

    def show(self) -> None:
        """It is as durable as promised: show it to readers."""
        self.stream.committed(self.admission)
        self.stream.retention.after(self.admission, self.first_seq)

    def refuse(self, engine: Engine, answer: ApiError) -> None:
        """It can't be stored; what is kept in memory only is there all the same."""
        if self.stream.stream_id:
            self.admission.refuse(engine, answer.code, answer.err_code, answer.description)
        else:
            self.admission.ack(engine)
            self.show()
