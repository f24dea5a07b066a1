"""Records in their stored form, and a stand-in for the index, so that the store is tested alone."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import google_crc32c as crc32c

from streamd._engine import CorruptRecord, Records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEAD = struct.Struct("<BQqHI")


def record(sequence: int, payload: bytes = b"", subject: bytes = b"a.b") -> bytes:
    """One record as the engine writes it."""
    body = _HEAD.pack(0, sequence, 0, len(subject), 0) + subject + payload
    return struct.pack("<I", crc32c.value(body)) + body


def pair(sequence: int, payload: bytes = b"") -> tuple[bytes, bytes]:
    """(key, record)."""
    return sequence.to_bytes(8, "big"), record(sequence, payload)


def records(low: int, high: int, payload: bytes = b"") -> Records:
    """Records for low <= sequence < high."""
    return Records(pair(sequence, payload) for sequence in range(low, high))


def sequence(value: bytes) -> int:
    """The sequence of a sound record. Errors: CorruptRecord."""
    if len(value) < 27 or struct.unpack_from("<I", value)[0] != crc32c.value(value[4:]):
        raise CorruptRecord("checksum")
    return int.from_bytes(value[5:13], "little")


class Index:
    """As much of `StreamState` as recovery needs: which sequences there are."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.live: set[int] = set()
        self.totals: bytes | None = None
        self.last_ts_ns = 0

    @property
    def messages(self) -> int:
        return len(self.live)

    def checkpoint(self) -> bytes:
        return b",".join(b"%d" % number for number in sorted(self.live))

    def delta(self) -> bytes:
        return b"%d" % len(self.live)

    @classmethod
    def restore(
        cls,
        name: str,
        checkpoint: bytes | None,
        removals: Iterable[bytes],
        totals: bytes | None,
        **options: Any,
    ) -> tuple[Index, int]:
        index = cls(name)
        if checkpoint == b"damaged":
            raise CorruptRecord("checkpoint")
        if checkpoint:
            index.live = set(map(int, checkpoint.split(b",")))
        start = max(index.live, default=0) + 1
        for segment in removals:
            index.live -= set(map(int, segment.split(b",")))
        index.totals = totals
        return index, start

    def replay(self, values: Sequence[bytes]) -> None:
        self.live |= set(map(sequence, values))

    def replayed(self) -> bool:
        return self.totals is None or int(self.totals) == len(self.live)

    def replay_ids(self, segments: Iterable[bytes], now_ns: int) -> None:
        self.ids = list(segments)
