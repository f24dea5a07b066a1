"""The ends of logs, as they were just written.

In the walk:  the writer fills it when a commit is durable; `StreamLog` asks it first.
Guarantee:    what it holds of a log is everything committed from `low` on, without holes of its own;
              bounded in bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from streamd import limits
from streamd._engine import Records

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Tail:
    """The cached end of one log."""

    __slots__ = ("bytes", "chunks", "firsts")

    def __init__(self) -> None:
        # Lists, as there are many logs with a chunk each, and an empty deque has 600 bytes.
        self.firsts: list[int] = []  # first sequence of each chunk when it was added
        self.chunks: list[Records] = []  # of one commit, or of several small ones
        self.bytes = 0


class TailCache:
    """Tails of all logs within one budget; the oldest chunk goes first, whoever's it is."""

    def __init__(
        self, bytes_max: int = limits.CACHE_BYTES_MAX, stream_bytes_max: int = limits.CACHE_STREAM_BYTES_MAX
    ) -> None:
        self.bytes_max = bytes_max
        self.stream_bytes_max = min(stream_bytes_max, bytes_max)
        self.bytes = 0
        self._tails: dict[int, _Tail] = {}
        self._chunks = 0
        # Streams in the order in which their chunks came; it may name chunks long gone.
        self._order: deque[int] = deque()

    def add(self, stream: int, records: Records) -> None:
        """Take in what a commit appended, above everything before."""
        if not records:
            return
        size = records.size
        if size > self.stream_bytes_max:
            self.forget(stream)
            return
        tail = self._tails.get(stream)
        if tail is None:
            tail = self._tails[stream] = _Tail()
        if size < limits.CACHE_CHUNK_BYTES_MIN and tail.chunks and tail.chunks[-1].size < limits.CACHE_CHUNK_BYTES_MIN:
            # Small commits share a chunk, so that there are never many to search.
            chunk = tail.chunks[-1]
            size = -chunk.size
            chunk.extend(records)
            size += chunk.size
        else:
            chunk = records
            if size < limits.CACHE_CHUNK_BYTES_MIN:
                chunk = Records()
                chunk.extend(records)
                size = chunk.size
            tail.firsts.append(records.first_seq)
            tail.chunks.append(chunk)
            self._chunks += 1
            self._order.append(stream)
        tail.bytes += size
        self.bytes += size
        while tail.bytes > self.stream_bytes_max:
            self._evict(stream)
        while self.bytes > self.bytes_max:
            self._evict(self._order.popleft())
        if len(self._order) > 4 * self._chunks + 1024:
            self._order = deque(name for name, t in self._tails.items() for _ in t.chunks)

    def delete(self, stream: int, keys: Sequence[bytes]) -> None:
        """Records are gone from the log."""
        tail = self._tails.get(stream)
        if tail is not None:
            for chunk in tail.chunks:
                chunk.discard(keys)
            self._shrink(stream)

    def delete_range(self, stream: int, low: int, high: int) -> None:
        """Everything with low <= sequence < high is gone from the log."""
        tail = self._tails.get(stream)
        if tail is None or high <= tail.firsts[0]:
            return
        for first, chunk in zip(tail.firsts, tail.chunks, strict=True):
            if first >= high:
                break
            chunk.discard_range(low, high)
        self._shrink(stream)

    def truncate(self, stream: int, sequence: int) -> None:
        """Everything from a sequence on is gone from the log, and others may come there."""
        tail = self._tails.get(stream)
        if tail is None:
            return
        while tail.firsts and tail.firsts[-1] >= sequence:
            self._give_up(tail, -1)
        if tail.firsts:
            # Made anew, as a chunk remembers where it ended, and the next record may lie before that.
            chunk, end = tail.chunks[-1], sequence.to_bytes(8, "big")
            kept = Records((name, value) for name, value in chunk if name < end)
            tail.chunks[-1] = kept
            tail.bytes += kept.size - chunk.size
            self.bytes += kept.size - chunk.size
        else:
            del self._tails[stream]

    def forget(self, stream: int) -> None:
        """Drop a whole tail."""
        tail = self._tails.pop(stream, None)
        if tail is not None:
            self.bytes -= tail.bytes
            self._chunks -= len(tail.chunks)

    def covers(self, stream: int, sequence: int) -> bool:
        """Whether everything committed from a sequence on is here."""
        tail = self._tails.get(stream)
        return tail is not None and sequence >= tail.firsts[0]

    def get(self, stream: int, sequence: int) -> bytes | None:
        """One record; only meaningful where `covers` holds."""
        tail = self._tails[stream]
        return tail.chunks[bisect_right(tail.firsts, sequence) - 1].get(sequence)

    def read(self, stream: int, sequence: int, limit: int) -> list[bytes]:
        """Up to `limit` records from a sequence on; only meaningful where `covers` holds."""
        tail = self._tails[stream]
        values: list[bytes] = []
        for at in range(bisect_right(tail.firsts, sequence) - 1, len(tail.chunks)):
            values += tail.chunks[at].read(sequence, limit - len(values))
            if len(values) >= limit:
                break
        return values

    def _shrink(self, stream: int) -> None:
        """Give up chunks in which nothing is left, as long as that leaves no hole."""
        tail = self._tails[stream]
        while len(tail.chunks) > 1 and not tail.chunks[0]:
            self._evict(stream)

    def _evict(self, stream: int) -> None:
        tail = self._tails.get(stream)
        if tail is None:
            return
        self._give_up(tail, 0)
        if not tail.chunks:
            del self._tails[stream]

    def _give_up(self, tail: _Tail, number: int) -> None:
        """Drop one chunk."""
        del tail.firsts[number]
        size = tail.chunks.pop(number).size
        tail.bytes -= size
        self.bytes -= size
        self._chunks -= 1
