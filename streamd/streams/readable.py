"""Reads of a stream that can't serve damage.

Guarantee:  what is returned was checked: checksum, sequence, and that nothing live is missing between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd._engine import CorruptRecord, count_matching, select
from streamd.store import sequence_of
from streamd.streams.records import SCAN_BYTES, SCAN_RECORDS, timestamp_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from streamd._engine import StreamState
    from streamd.store import Log


class Readable:
    """A log, the machine that knows what is in it, and how far readers may see."""

    __slots__ = ()

    log: Log
    state: StreamState
    committed_seq: int

    def read(self, from_seq: int, limit: int, limit_bytes: int) -> tuple[list[bytes], int]:
        """Committed records from a sequence on, ascending, and the last sequence that was looked at.

        Errors: CorruptRecord if one is damaged or missing.
        """
        values = self.log.read(from_seq, limit, limit_bytes)
        while values and sequence_of(values[-1]) > self.committed_seq:
            values.pop()
        covered = self.state.check(from_seq, values, to_seq=0 if values else self.committed_seq)
        return values, max(covered, from_seq)

    def get(self, sequence: int) -> bytes | None:
        """One live record. Errors: CorruptRecord."""
        if sequence > self.committed_seq or not self.state.live(sequence):
            return None
        value = self.log.get(sequence)
        self.state.check(sequence, [] if value is None else [value], to_seq=sequence)
        return value

    def get_many(self, sequences: Sequence[int]) -> list[bytes | None]:
        """Records in the order asked for, None where there is none (any more). Errors: CorruptRecord."""
        values = self.log.get_many(sequences)
        for sequence, value in zip(sequences, values, strict=True):
            if value is None:
                if self.state.live(sequence) and sequence <= self.committed_seq:
                    self.state.check(sequence, [], to_seq=sequence)
            elif sequence_of(value) != sequence:
                raise CorruptRecord(f"sequence {sequence} holds another message")
        return values

    def next_match(self, from_seq: int, filters: Sequence[str]) -> bytes | None:
        """The first record from a sequence on that matches. Errors: CorruptRecord."""
        low, high, count = self.state.bounds(filters)
        if not count:
            return None
        sequence = max(from_seq, low)
        while sequence <= min(high, self.committed_seq):
            values, covered = self.read(sequence, SCAN_RECORDS, SCAN_BYTES)
            matching = select(values, filters)
            if matching:
                return self.get(matching[0])
            sequence = covered + 1
        return None

    def last_match(self, pattern: str) -> bytes | None:
        """The last record on a subject or pattern. Errors: CorruptRecord."""
        if "*" not in pattern and ">" not in pattern:
            sequence, exact = self.state.last_of(pattern)
            if exact or not sequence:
                return self.get(sequence) if sequence else None
        _low, high, count = self.state.bounds([pattern])
        if not count:
            return None
        top = min(high, self.committed_seq)
        while top >= self.state.first_seq:
            bottom = max(self.state.first_seq, top - SCAN_RECORDS + 1)
            found = 0
            sequence = bottom
            while sequence <= top:
                values, covered = self.read(sequence, top - sequence + 1, SCAN_BYTES)
                matching = [seq for seq in select(values, [pattern]) if seq <= top]
                found = matching[-1] if matching else found
                sequence = covered + 1
            if found:
                return self.get(found)
            top = bottom - 1
        return None

    def first_since(self, timestamp_ns: int) -> int:
        """The first live sequence stored at or after a time; beyond the last if there is none. Errors: CorruptRecord."""
        low, high = self.state.first_seq, self.committed_seq + 1
        while low < high:
            middle = (low + high) // 2
            values = self.log.read(middle, 1, SCAN_BYTES)
            if not values or timestamp_of(values[0]) >= timestamp_ns:
                high = middle
            else:
                low = max(sequence_of(values[0]), middle) + 1
        return low

    def count_pending(self, filters: Sequence[str], from_seq: int) -> Generator[int, None, int]:
        """How many committed messages match from a sequence on. A step for each piece that was read, which says of how many
        records: who counts lets others in between. What is committed meanwhile isn't counted. Errors: CorruptRecord.
        """
        count, exact = self.state.pending(filters, from_seq)
        if exact:
            return count
        if from_seq - self.state.first_seq <= SCAN_RECORDS and self.state.last_seq == self.committed_seq:
            # Few are before it, and nothing is on its way into the log. No step between, as they may be trimmed.
            total = self.state.bounds(filters)[2]
            return total - sum(matching for matching, _ in self._matching(filters, self.state.first_seq, from_seq - 1))
        for matching, records in self._matching(filters, from_seq, self.committed_seq):
            count += matching
            yield records
        return count

    def _matching(self, filters: Sequence[str], low: int, high: int) -> Iterator[tuple[int, int]]:
        sequence = low
        while sequence <= high:
            values, covered = self.read(sequence, min(SCAN_RECORDS, high - sequence + 1), SCAN_BYTES)
            while values and sequence_of(values[-1]) > high:
                values.pop()
            yield count_matching(values, filters), len(values)
            sequence = covered + 1

    def last_per_subject(self, filters: Sequence[str]) -> list[int]:
        """The sequence of every matching subject's last message, ascending. Errors: CorruptRecord."""
        self.resolve(self.state.inexact(filters))
        return self.state.last_per_subject(filters)

    def resolve(self, subjects: Sequence[str]) -> None:
        """Look for the last messages of subjects of which the machine knows only a bound. Errors: CorruptRecord."""
        for subject in subjects:
            value = self.last_match(subject)
            if value is not None:
                self.state.note_last(subject, sequence_of(value))

    def first_timestamp_ns(self) -> int:
        """When the first message was stored; 0 if there is none."""
        if not self.state.messages:
            return 0
        if not self.state.first_ts_ns:
            value = self.get(self.state.first_seq)
            if value is not None:
                self.state.note_first(self.state.first_seq, timestamp_of(value))
        return self.state.first_ts_ns

    def rebuild_queues(self) -> None:
        """A limit per subject is new: the machine needs to know every message of every subject. Nothing may be under way, as it
        forgets what isn't in the log. Errors: CorruptRecord.
        """
        sequence = self.state.rebuild()
        while values := self.log.read(sequence, SCAN_RECORDS, SCAN_BYTES):
            self.state.replay(values)
            sequence = sequence_of(values[-1]) + 1
        if not self.state.replayed():
            raise CorruptRecord("its records are not those that were counted")
