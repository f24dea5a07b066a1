"""The entries of a log in LMDB: a record alone, or several that one commit appended, packed into one value.

In the walk:  `apply` puts and takes records out here, `StreamLog` reads.
Guarantee:    a record that was deleted is gone: the pack that held it is written anew without it.
Not here:     how a pack is laid out (engine/src/codec/pack.rs).

LMDB puts, writes and looks up entries. A pack fills two of its pages, of which single records of 1 KiB would leave a fifth
empty, and is put in one step.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from itertools import islice, repeat, starmap, takewhile
from typing import TYPE_CHECKING

from streamd import limits
from streamd._engine import CorruptRecord, Records, packed, record_key, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdb import Cursor

_log = logging.getLogger(__name__)


def seek(cursor: Cursor[bytes], key: bytes) -> bool:
    """Stand on the entry that has the record of that key, if any has."""
    if cursor.set_range(key):
        return cursor.key().startswith(key) or cursor.prev()
    return cursor.last()


def append(cursor: Cursor[bytes], records: Records) -> int:
    """Put records behind all others; returns how many lie in entries of others."""
    _, entries = cursor.putmulti(records.packs(limits.PACK_BYTES), append=True)
    return len(records) - entries


def read(cursor: Cursor[bytes], from_seq: int, limit: int, bytes_max: int) -> list[bytes]:
    """Records from a sequence on, at least one if there is one, then about as many as the limits say: too many, rather."""
    values: list[bytes] = []
    left = bytes_max
    if not (seek(cursor, record_key(from_seq)) or cursor.first()):
        return values
    entries = cursor.iternext(keys=False, values=True)
    while left > 0 and len(values) < limit:
        room = max(1, min(limits.READ_STEP_RECORDS, limit - len(values), left // limits.PACK_BYTES))
        step = list(islice(entries, room))
        if not step:
            break
        found = unpack(step, from_seq)
        left -= sum(map(len, found))
        values += found
    return values


def get(cursor: Cursor[bytes], sequences: Sequence[int]) -> list[bytes | None]:
    """Records in the order asked for. Errors: CorruptRecord if an entry is damaged, or lies where another should."""
    values: list[bytes | None] = []
    records = Records()
    for sequence in sequences:
        if not records.first_seq <= sequence <= records.last_seq:
            records = Records.unpacked(cursor.value()) if seek(cursor, record_key(sequence)) else Records()
            if len(records) and not cursor.key().startswith(record_key(records.first_seq)):
                # Sound in itself: its checksum can't tell.
                raise CorruptRecord(f"the entry of {records.first_seq} lies where another should")
        values.append(records.get(sequence))
    return values


def take_out(cursor: Cursor[bytes], keys: Sequence[bytes]) -> int:
    """Delete single records, whose keys ascend; returns how many of them lay in entries of others."""
    shared = at = 0
    while at < len(keys):
        behind = at + 1
        if seek(cursor, keys[at]):
            records = _unpacked(cursor)
            behind = max(behind, bisect_left(keys, record_key(records.last_seq + 1), at))
            before = len(records)
            records.discard(keys[at:behind])
            shared += _put_back(cursor, records, before)
        at = behind
    return shared


def take_out_range(cursor: Cursor[bytes], low: int, high: int) -> int:
    """Delete low <= sequence < high; returns how many of them lay in entries of others."""
    shared, start, end = 0, record_key(low), record_key(high)
    if seek(cursor, start) and cursor.key() < start:
        shared += _cut(cursor, low, high)
    if not cursor.set_range(start):
        return shared
    keys = list(takewhile(end.__gt__, cursor.iternext(keys=True, values=False)))
    if not keys:
        return shared
    # The last of them may reach beyond the end.
    cursor.set_key(keys.pop())
    shared += _cut(cursor, low, high)
    if keys and cursor.set_range(start):
        deque(starmap(cursor.delete, repeat((), len(keys))), maxlen=0)
    return shared + packed(keys) - len(keys)


def all_within(cursor: Cursor[bytes], low: int, high: int) -> bool:
    """Whether there are records, and all of them have low <= sequence < high."""
    if not cursor.first() or cursor.key() < record_key(low):
        return False
    return cursor.last() and cursor.key() < record_key(high) and _unpacked(cursor).last_seq < high


def _cut(cursor: Cursor[bytes], low: int, high: int) -> int:
    records = _unpacked(cursor)
    before = len(records)
    records.discard_range(low, high)
    return _put_back(cursor, records, before)


def _put_back(cursor: Cursor[bytes], records: Records, before: int) -> int:
    """Leave in the entry what is left of it; returns how many fewer lie in entries of others."""
    if len(records) == before:
        return 0
    cursor.delete()
    for key, value in records.packs(limits.PACK_BYTES):
        cursor.put(key, value)
    return before - max(1, len(records))


def _unpacked(cursor: Cursor[bytes]) -> Records:
    """The records of the entry that the cursor stands on; none if its head is damaged: it stays, and the next start counts."""
    try:
        return Records.unpacked(cursor.value())
    except CorruptRecord as error:
        _log.error("store.entry_damaged reason=%s", error)
        return Records()
