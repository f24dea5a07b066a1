"""The records of one stream, as the loop thread sees them.

In the walk:  `streams/` stages changes here into a `Work`, and reads; below it the tail cache and LMDB.
Guarantee:    reads see what is committed; `read` without what is staged to go. Damage, of a
              record or of a page that leads to it, is CorruptRecord. With a cipher, LMDB and the journal get sealed payloads
              only, while the cache and whoever reads here have plain ones.
Not here:     what a record means. A sequence that is absent may be deleted or damaged: `StreamState.check`
              tells.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from streamd import limits
from streamd._engine import CorruptRecord
from streamd.errors import StoreCorrupt
from streamd.store import packs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd._engine import Cipher, Records
    from streamd.store.cache import TailCache
    from streamd.store.environment import Environment
    from streamd.store.work import LogWork, Work


class Log(Protocol):
    """What `streams/` needs of a log, on disk or in memory."""

    stream: int

    def append(self, work: Work, records: Records, *, shown: bool = False) -> None:
        """Stage records; they ascend and lie above everything before."""

    def delete(self, work: Work, keys: Sequence[bytes]) -> None:
        """Stage the deletion of single records."""

    def delete_range(self, work: Work, low: int, high: int) -> None:
        """Stage the deletion of low <= sequence < high."""

    def keep_from(self, work: Work, sequence: int) -> None:
        """Stage the deletion of everything below."""

    def read(
        self, from_seq: int, limit: int = limits.READ_RECORDS_MAX, bytes_max: int = limits.READ_BYTES_MAX
    ) -> list[bytes]:
        """Committed records from from_seq on that aren't staged to go, ascending; at least one if there is one, then
        within the limits."""

    def get(self, sequence: int) -> bytes | None:
        """One committed record."""

    def get_many(self, sequences: Sequence[int]) -> list[bytes | None]:
        """Committed records in the order asked for."""


class StreamLog:
    """A log in the environment. Give it only to streams whose definition was committed or is in the same
    Work."""

    __slots__ = ("_cache", "_cipher", "_environment", "_shown", "_staged", "journaled", "stream")

    def __init__(self, environment: Environment, cache: TailCache, stream: int, cipher: Cipher | None = None) -> None:
        """`cipher`: seals what is stored from now on; what was stored without one stays readable."""
        self.stream = stream
        self._environment = environment
        self._cache = cache
        self._cipher = cipher
        self._staged: list[LogWork] = []  # in that order, rarely more than two
        self._shown: list[Records] = []  # staged, and to be read all the same
        self.journaled: Records | None = None  # committed, but to the journal: behind all that LMDB has

    # --- staging

    def of(self, work: Work) -> LogWork:
        """This log's part of a Work, for all that has no method here: totals, ids, checkpoint, consumers."""
        part = work.of(self.stream)
        if part.log is not self:
            part.log = self
            self._staged.append(part)
        return part

    def append(self, work: Work, records: Records, *, shown: bool = False) -> None:
        part = self.of(work)
        part.plain.append(records)
        if shown and len(records):
            self._shown.append(records)
        if self._cipher is not None:
            records = records.sealed(self._cipher)
        part.appends.append(records)
        work.records += len(records)
        work.bytes += records.size

    def truncate_from(self, work: Work, sequence: int) -> None:
        """Stage the deletion of everything from a sequence on, before what is appended in the same work, once a work. Only the
        journals of replicated groups do that: records of theirs that were never committed by a quorum are replaced."""
        part = self.of(work)
        assert not part.plain, "truncate first"
        part.truncate_from = sequence

    def delete(self, work: Work, keys: Sequence[bytes]) -> None:
        self.of(work).deletes += keys
        work.records += len(keys)

    def delete_range(self, work: Work, low: int, high: int) -> None:
        self.of(work).ranges.append((low, high))

    def keep_from(self, work: Work, sequence: int) -> None:
        part = self.of(work)
        part.keep_from = max(part.keep_from, sequence)

    def settled(self, part: LogWork, *, committed: bool) -> None:
        """What became of its part of a Work; the writer calls it on the loop thread, before `done`."""
        self._staged.remove(part)
        if self._shown:
            self._shown = [records for records in self._shown if not any(records is each for each in part.plain)]
        if not committed:
            return
        if part.drop:
            self._cache.forget(self.stream)
            return
        if part.truncate_from:
            self._cache.truncate(self.stream, part.truncate_from)
        for records in part.plain:
            self._cache.add(self.stream, records)
        if part.deletes:
            self._cache.delete(self.stream, part.deletes)
        for low, high in part.ranges:
            self._cache.delete_range(self.stream, low, high)
        if part.keep_from:
            self._cache.delete_range(self.stream, 0, part.keep_from)

    # --- reading

    def read(
        self, from_seq: int, limit: int = limits.READ_RECORDS_MAX, bytes_max: int = limits.READ_BYTES_MAX
    ) -> list[bytes]:
        parts = [part for part in self._staged if part.deletes or part.ranges or part.keep_from or part.truncate_from]
        if not parts:
            return self._read(from_seq, limit, bytes_max)
        # The machine has forgotten these records already, while the commit that removes them is still under way.
        from_seq = max(from_seq, *(part.keep_from for part in parts))
        gone = {name[::-1] for part in parts for name in part.deletes}  # as the sequence stands in a record
        ranges = [bounds for part in parts for bounds in part.ranges]
        ranges += [(part.truncate_from, 1 << 64) for part in parts if part.truncate_from]
        while values := self._read(from_seq, limit, bytes_max):
            from_seq = sequence_of(values[-1]) + 1
            if gone:
                values = [value for value in values if value[5:13] not in gone]
            for low, high in ranges:
                values = [value for value in values if not low <= sequence_of(value) < high]
            if values:
                break
        return values

    def _read(self, from_seq: int, limit: int, bytes_max: int) -> list[bytes]:
        values = self._stored(from_seq, limit, bytes_max)
        for records in self._shown:
            left = bytes_max - sum(map(len, values))
            if left > 0 and len(values) < limit:
                start = max(from_seq, sequence_of(values[-1]) + 1) if values else from_seq
                values += records.read(start, limit - len(values))
                values = within(values, bytes_max)
        return values

    def _stored(self, from_seq: int, limit: int, bytes_max: int) -> list[bytes]:
        if self._cache.covers(self.stream, from_seq):
            return within(self._cache.read(self.stream, from_seq, limit), bytes_max)
        try:
            with self._environment.read() as txn, txn.cursor(db=self._environment.databases[self.stream]) as cursor:
                values = packs.read(cursor, from_seq, limit, bytes_max)[:limit]
        except StoreCorrupt as error:
            raise _damaged(error) from error
        left = bytes_max - sum(map(len, values))
        if self.journaled is not None and left > 0 and len(values) < limit:
            # LMDB may have taken these over a moment ago.
            from_seq = max(from_seq, sequence_of(values[-1]) + 1) if values else from_seq
            step = self.journaled.read(from_seq, limit - len(values))
            left -= sum(map(len, step))
            values += step
        values = within(values, bytes_max) if left < 0 else values
        return values if self._cipher is None else self._cipher.opened(values)

    def get(self, sequence: int) -> bytes | None:
        return self.get_many((sequence,))[0]

    def get_many(self, sequences: Sequence[int]) -> list[bytes | None]:
        values = self._stored_ones(sequences)
        for records in self._shown:
            values = [
                records.get(sequence) if value is None else value
                for sequence, value in zip(sequences, values, strict=True)
            ]
        return values

    def _stored_ones(self, sequences: Sequence[int]) -> list[bytes | None]:
        if sequences and self._cache.covers(self.stream, min(sequences)):
            return [self._cache.get(self.stream, sequence) for sequence in sequences]
        environment = self._environment
        try:
            with environment.view() as txn, txn.cursor(db=environment.databases[self.stream]) as cursor:
                values = packs.get(cursor, sequences)
        except StoreCorrupt as error:
            raise _damaged(error) from error
        if self.journaled is not None:
            values = [
                self.journaled.get(sequence) if value is None else value
                for sequence, value in zip(sequences, values, strict=True)
            ]
        return values if self._cipher is None else self._cipher.opened(values)

    def count(self) -> int:
        """How many records are committed, as the keys in LMDB tell, and those that it is still to take over. Errors:
        CorruptRecord."""
        try:
            with self._environment.read() as txn, txn.cursor(db=self._environment.databases[self.stream]) as cursor:
                count = packs.count(cursor)
        except StoreCorrupt as error:
            raise _damaged(error) from error
        return count + (len(self.journaled) if self.journaled is not None else 0)


def _damaged(error: StoreCorrupt) -> CorruptRecord:
    """A page that LMDB can't walk on its way to records is damage of their stream, as a bad record is."""
    return CorruptRecord(f"its pages are damaged ({error.found})")


def sequence_of(value: bytes) -> int:
    """The sequence that a record names as its own (layout: streamd._engine, "The log of a stream")."""
    return int.from_bytes(value[5:13], "little")


def key(sequence: int) -> bytes:
    """Key of a record."""
    return sequence.to_bytes(8, "big")


def within(values: list[bytes], bytes_max: int) -> list[bytes]:
    """As many of the values as fit, the first one always."""
    if sum(map(len, values)) <= bytes_max:
        return values
    fit = sum(1 for total in accumulate(map(len, values)) if total <= bytes_max)
    return values[: max(1, fit)]
