"""The ends of logs, as they were just written.

In the walk:  the writer fills it when a commit is durable; `StreamLog` asks it first.
Guarantee:    what it holds of a log is everything committed from `low` on, without holes of its own;
              bounded in bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import islice, repeat
from operator import itemgetter
from typing import TYPE_CHECKING

from streamd import limits

if TYPE_CHECKING:
    from collections.abc import Iterable

_value = itemgetter(1)
Chunk = dict[bytes, bytes]  # of one commit, ascending; deletes leave it sorted


class _Tail:
    """The cached end of one log."""

    __slots__ = ("bytes", "chunks", "firsts", "sizes")

    def __init__(self) -> None:
        self.firsts: deque[bytes] = deque()  # first key of each chunk when it was added
        self.chunks: deque[Chunk] = deque()
        self.sizes: deque[int] = deque()
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
        # Streams in the order in which their chunks came; it may name chunks long gone.
        self._order: deque[int] = deque()

    def add(self, stream: int, records: list[tuple[bytes, bytes]]) -> None:
        """Take in what a commit appended; `records` ascend and lie above everything before."""
        if not records:
            return
        size = sum(map(len, map(_value, records))) + 100 * len(records)  # 100: the objects around a value
        if size > self.stream_bytes_max:
            self.forget(stream)
            return
        tail = self._tails.get(stream)
        if tail is None:
            tail = self._tails[stream] = _Tail()
        tail.firsts.append(records[0][0])
        tail.chunks.append(dict(records))
        tail.sizes.append(size)
        tail.bytes += size
        self.bytes += size
        self._order.append(stream)
        while tail.bytes > self.stream_bytes_max:
            self._evict(stream)
        while self.bytes > self.bytes_max:
            self._evict(self._order.popleft())
        if len(self._order) > 4 * sum(len(t.chunks) for t in self._tails.values()) + 1024:
            self._order = deque(name for name, t in self._tails.items() for _ in t.chunks)

    def delete(self, stream: int, keys: Iterable[bytes]) -> None:
        """Records are gone from the log."""
        tail = self._tails.get(stream)
        if tail is None:
            return
        gone = filter(tail.firsts[0].__le__, keys)
        if len(tail.chunks) == 1:
            deque(map(tail.chunks[0].pop, gone, repeat(None)), maxlen=0)
        else:
            for key in gone:
                tail.chunks[bisect_right(tail.firsts, key) - 1].pop(key, None)

    def delete_range(self, stream: int, low: bytes, high: bytes) -> None:
        """Everything with low <= key < high is gone from the log."""
        tail = self._tails.get(stream)
        if tail is None or high <= tail.firsts[0]:
            return
        while low <= tail.firsts[0] and len(tail.chunks) > 1 and tail.firsts[1] <= high:
            self._evict(stream)
        for chunk in tail.chunks:
            for key in [key for key in chunk if low <= key < high]:
                del chunk[key]

    def forget(self, stream: int) -> None:
        """Drop a whole tail."""
        tail = self._tails.pop(stream, None)
        if tail is not None:
            self.bytes -= tail.bytes

    def covers(self, stream: int, key: bytes) -> bool:
        """Whether everything committed from `key` on is here."""
        tail = self._tails.get(stream)
        return tail is not None and key >= tail.firsts[0]

    def get(self, stream: int, key: bytes) -> bytes | None:
        """One record; only meaningful where `covers` holds."""
        tail = self._tails[stream]
        return tail.chunks[bisect_right(tail.firsts, key) - 1].get(key)

    def read(self, stream: int, key: bytes, limit: int) -> list[bytes]:
        """Up to `limit` records from `key` on; only meaningful where `covers` holds."""
        tail = self._tails[stream]
        at = bisect_right(tail.firsts, key) - 1
        chunk = tail.chunks[at]
        skip = 0 if key <= tail.firsts[at] else bisect_left(list(chunk), key)
        values = list(islice(chunk.values(), skip, skip + limit))
        while len(values) < limit and at + 1 < len(tail.chunks):
            at += 1
            values += islice(tail.chunks[at].values(), limit - len(values))
        return values

    def _evict(self, stream: int) -> None:
        tail = self._tails.get(stream)
        if tail is None:
            return
        tail.firsts.popleft()
        tail.chunks.popleft()
        size = tail.sizes.popleft()
        tail.bytes -= size
        self.bytes -= size
        if not tail.chunks:
            del self._tails[stream]
