"""What one commit contains.

In the walk:  `streams/` fills a `Work`, `Writer.submit` takes it, `Outcome` comes back.
Guarantee:    a Work is applied whole or not at all, and behind those submitted before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamd import limits
from streamd._engine import Records

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.errors import StoreError
    from streamd.store.log import StreamLog


@dataclass(slots=True, eq=False)
class LogWork:
    """What one commit does to one stream, in this order: definition, truncate_from, appends, deletes, ranges,
    keep_from, the rest.

    But for truncate_from, the order makes no difference to the outcome as long as a sequence is never given twice.
    """

    stream: int
    log: StreamLog | None = None  # told about the outcome before `done` is called
    definition: bytes | None = None  # creates the stream if it isn't there
    truncate_from: int = 0  # delete every sequence from here on, to append others there; 0: none
    appends: list[Records] = field(default_factory=list)  # ascending, above all that is stored
    plain: list[Records] = field(default_factory=list)  # the same as readers see them: `appends` may be sealed
    deletes: list[bytes] = field(default_factory=list)  # keys; those that are absent are ignored
    ranges: list[tuple[int, int]] = field(default_factory=list)  # delete low <= sequence < high
    keep_from: int = 0  # delete every sequence below
    totals: bytes | None = None  # `StreamState.delta`: replaces the one before
    removals: bytes = b""  # `StreamState.delta`: added to those since the checkpoint
    ids: list[bytes] = field(default_factory=list)  # `Admission.ids`: further segments
    ids_drop: int = 0  # then drop so many of the oldest segments
    checkpoint: bytes | None = None  # replaces the one before, and the removals up to and with this work's
    consumers: dict[int, bytes] = field(default_factory=dict)  # definitions
    consumer_states: dict[int, bytes] = field(default_factory=dict)
    consumers_drop: list[int] = field(default_factory=list)
    drop: bool = False  # remove the stream with all that belongs to it; last

    def put_row(self, number: int, definition: bytes, state: bytes | None) -> None:
        """Put a consumer, also where one of its number is to go."""
        if number in self.consumers_drop:
            self.consumers_drop.remove(number)
        self.consumers[number] = definition
        if state is not None:
            self.consumer_states[number] = state

    def drop_row(self, number: int) -> None:
        """Take a consumer away."""
        self.consumers.pop(number, None)
        self.consumer_states.pop(number, None)
        self.consumers_drop.append(number)

    def adds_only(self) -> bool:
        """Whether it appends and overwrites, and neither removes nor defines anything."""
        return not (
            self.definition is not None
            or self.truncate_from
            or self.deletes
            or self.ranges
            or self.keep_from
            or self.removals
            or self.checkpoint is not None
            or self.consumers
            or self.consumers_drop
            or self.drop
        )

    def delta(self, totals: bytes, removals: bytes) -> None:
        """Take what `StreamState.delta` returned; once a Work, as segments are stored apart."""
        self.totals = totals
        assert not (removals and self.removals), "one delta a work"
        self.removals = removals or self.removals


@dataclass(slots=True)
class Work:
    """Everything that must become durable together. The caller bounds it: COMMIT_RECORDS_MAX,
    COMMIT_BYTES_MAX."""

    logs: dict[int, LogWork] = field(default_factory=dict)
    bytes: int = 0  # of records, kept by `StreamLog.append`
    records: int = 0
    durable: Callable[[], None] | None = None  # called as soon as it is, before readers may see it: for acks alone

    def of(self, stream: int) -> LogWork:
        """The part of one stream, begun if need be."""
        part = self.logs.get(stream)
        if part is None:
            part = self.logs[stream] = LogWork(stream)
        return part

    def absorb(self, later: Work) -> None:
        """Take in a work that only adds and that follows this one."""
        for stream, part in later.logs.items():
            mine = self.of(stream)
            mine.log = part.log or mine.log
            for records in part.appends:
                if not mine.appends:
                    mine.appends.append(Records())
                mine.appends[0].extend(records)
            if part.totals is not None:
                mine.totals = part.totals
            if part.ids:
                mine.ids += part.ids
            mine.ids_drop += part.ids_drop
            if part.consumer_states:
                mine.consumer_states.update(part.consumer_states)
        self.bytes += later.bytes
        self.records += later.records

    def adds_only(self) -> bool:
        """Whether no log's part removes or defines anything."""
        return all(part.adds_only() for part in self.logs.values())

    def full(self) -> bool:
        """Whether it should be submitted before more is added."""
        return (
            self.records >= limits.COMMIT_RECORDS_MAX
            or self.bytes >= limits.COMMIT_BYTES_MAX
            or len(self.logs) >= limits.COMMIT_STREAMS_MAX
        )


@dataclass(slots=True)
class Outcome:
    """What became of a Work. With an error, nothing of it was applied."""

    work: Work
    error: StoreError | None = None
    commit: int = 0  # number of the commit to LMDB that holds it; 0: none yet, the journal does
