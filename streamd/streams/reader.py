"""Who follows a stream beside JetStream's consumers: a subscription of NATS Streaming is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd._engine import Admission
    from streamd.streams.stream import Stream


class Stateful(Protocol):
    """A machine with a stored form."""

    def encode(self) -> bytes:
        """What a restart needs."""


class Saved(Protocol):
    """Something whose state is stored with a stream."""

    closed: bool
    consumer_id: int  # the store's number; 0: kept in memory only

    @property
    def stream(self) -> Stream:
        """The stream."""

    @property
    def state(self) -> Stateful:
        """The machine."""


class Reader(Saved, Protocol):
    """Is told what becomes of the stream's messages once that is durable."""

    def appended(self, admission: Admission) -> None:
        """Messages were stored."""

    def deleted(self, sequences: Sequence[int]) -> None:
        """Messages were deleted."""

    def trimmed(self, first: int) -> None:
        """Everything below a sequence has gone."""

    def stream_closed(self) -> None:
        """The stream was deleted."""
