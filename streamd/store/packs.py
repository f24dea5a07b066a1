"""The entries of a log in LMDB: a record alone, or several that one commit appended, packed into one value.

In the walk:  `apply` puts and takes records out here, `StreamLog` reads.
Guarantee:    a record that was deleted is gone: the pack that held it is written anew without it.
Not here:     how a pack is laid out (engine/src/codec/pack.rs).

LMDB puts, writes and looks up entries. A pack fills two of its pages, of which single records of 1 KiB would leave a fifth
empty, and is put in one step. Its key begins with its last sequence: `set_range` finds the entry that has a record.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import deque
from itertools import islice, repeat, starmap, takewhile
from typing import TYPE_CHECKING

from streamd import limits
from streamd._engine import CorruptRecord, Records, packed, pick, record_key, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdb import Cursor

_log = logging.getLogger(__name__)


def append(cursor: Cursor[bytes], records: Records) -> None:
    """Put records behind all others."""
    given, put = cursor.putmulti(records.packs(limits.PACK_BYTES), append=True)
    # LMDB passes over what isn't above all others, without a word.
    assert put == given, f"{given - put} entries from {records.first_seq} on aren't above all others"


def count(cursor: Cursor[bytes]) -> int:
    """How many records there are; only the keys are looked at."""
    total = 0
    keys = cursor.iternext(keys=True, values=False)
    while some := list(islice(keys, limits.COUNT_STEP_KEYS)):
        total += packed(some)
    return total


def read(cursor: Cursor[bytes], from_seq: int, limit: int, bytes_max: int) -> list[bytes]:
    """Records from a sequence on, at least one if there is one, then about as many as the limits say: too many, rather."""
    values: list[bytes] = []
    if not cursor.set_range(record_key(from_seq)):
        return values
    left = bytes_max
    entries = cursor.iternext(keys=False, values=True)
    while left > 0 and len(values) < limit:
        step_max = min(limits.READ_STEP_ENTRIES, max(limits.READ_STEP_MIN, left // limits.PACK_BYTES))
        step = list(islice(entries, min(step_max, limit - len(values))))
        if not step:
            break
        found = unpack(step, from_seq)
        left -= sum(map(len, found))
        values += found
    return values


def get(cursor: Cursor[memoryview[int]], sequences: Sequence[int]) -> list[bytes | None]:
    """Records in the order asked for. Only they are copied, of views into the map.

    Errors: CorruptRecord if an entry is damaged, or lies where another should.
    """
    entries: list[bytes | memoryview[int]] = [
        cursor.value() if cursor.set_range(record_key(sequence)) else b"" for sequence in sequences
    ]
    return pick(entries, sequences)


def take_out(cursor: Cursor[bytes], keys: Sequence[bytes]) -> None:
    """Delete single records, whose keys ascend."""
    at = 0
    while at < len(keys) and cursor.set_range(keys[at]):
        if cursor.key() == keys[at]:  # alone
            cursor.delete()
            at += 1
            continue
        records = _unpacked(cursor)
        behind = max(at + 1, bisect_right(keys, record_key(records.last_seq), at))
        before = len(records)
        records.discard(keys[at:behind])
        _put_back(cursor, records, before)
        at = behind


def take_out_range(cursor: Cursor[bytes], low: int, high: int) -> None:
    """Delete low <= sequence < high."""
    start, end = record_key(low), record_key(high)
    # The last entry may reach beyond the range, the first may begin before it: both are written anew.
    if cursor.set_range(end):
        _cut(cursor, low, high)
    if low and cursor.set_range(start):
        _cut(cursor, low, high)
    if not cursor.set_range(start):
        return
    entries = sum(1 for _ in takewhile(end.__gt__, cursor.iternext(keys=True, values=False)))
    if entries and cursor.set_range(start):
        deque(starmap(cursor.delete, repeat((), entries)), maxlen=0)


def all_within(cursor: Cursor[bytes], low: int, high: int) -> bool:
    """Whether there are records, and all of them have low <= sequence < high."""
    if not cursor.last() or cursor.key() >= record_key(high) or not cursor.first():
        return False
    return not low or (cursor.key() >= record_key(low) and _unpacked(cursor).first_seq >= low)


def _cut(cursor: Cursor[bytes], low: int, high: int) -> None:
    records = _unpacked(cursor)
    before = len(records)
    records.discard_range(low, high)
    _put_back(cursor, records, before)


def _put_back(cursor: Cursor[bytes], records: Records, before: int) -> None:
    """Leave in the entry what is left of its records."""
    if len(records) < before:
        cursor.delete()
        for key, value in records.packs(limits.PACK_BYTES):
            cursor.put(key, value)


def _unpacked(cursor: Cursor[bytes]) -> Records:
    """The records of the entry that the cursor stands on; none if its head is damaged: it stays, and is told of when read."""
    try:
        return Records.unpacked(cursor.value())
    except CorruptRecord as error:
        _log.error("store.entry_damaged reason=%s", error)
        return Records()
