"""Puts a Work into a write transaction.

In the walk:  called by the writer, on its thread, while the loop thread is blocked.
Guarantee:    loops over records run inside C, but for single deletes, which go entry by entry; no decision is made here.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING

from streamd.store import layout, packs
from streamd.store.log import key

if TYPE_CHECKING:
    from lmdb import Cursor, Transaction

    from streamd.store.environment import Database, Environment
    from streamd.store.work import LogWork, Work

_LAST = (1 << 64) - 1


def apply(
    environment: Environment, txn: Transaction[bytes], work: Work, created: list[int], dropped: list[int]
) -> None:
    """Apply a whole Work. Databases that were made or removed are noted in `created` and `dropped`, for an
    abort."""
    for part in work.logs.values():
        if part.definition is not None and not environment.known(part.stream):
            environment.databases[part.stream] = environment.open_database(txn, part.stream)
            created.append(part.stream)
        if part.stream not in environment.databases:
            # The stream was dropped while this was under way; records are never given up silently.
            assert not part.appends, f"records for stream {part.stream}, which isn't there"
            if part.drop and part.stream in environment.damaged:
                # LMDB would walk the damaged pages to free them.
                _drop(environment, txn, part.stream)
                environment.put(txn, layout.key(layout.ABANDONED, part.stream), b"")
            continue
        _records(environment, txn, part)
        _meta(environment, txn, part)
        if part.drop:
            _drop(environment, txn, part.stream)
            dropped.append(part.stream)


def _records(environment: Environment, txn: Transaction[bytes], part: LogWork) -> None:
    if not (part.appends or part.deletes or part.ranges or part.keep_from or part.truncate_from):
        return
    database = environment.databases[part.stream]
    with txn.cursor(db=database) as cursor:
        if part.truncate_from:
            _delete_range(txn, database, cursor, part.truncate_from, _LAST)
        for records in part.appends:
            packs.append(cursor, records)
        if part.deletes:
            packs.take_out(cursor, sorted(part.deletes))
        for low, high in part.ranges:
            _delete_range(txn, database, cursor, low, high)
        if part.keep_from:
            _delete_range(txn, database, cursor, 0, part.keep_from)


def _delete_range(txn: Transaction[bytes], database: Database, cursor: Cursor[bytes], low: int, high: int) -> None:
    """Delete low <= sequence < high."""
    if packs.all_within(cursor, low, high):
        # Pages go back at once instead of entry by entry.
        txn.drop(database, delete=False)
    else:
        packs.take_out_range(cursor, low, high)


def _meta(environment: Environment, txn: Transaction[bytes], part: LogWork) -> None:
    stream = part.stream
    put = environment.put
    if part.definition is not None:
        put(txn, layout.key(layout.DEFINITION, stream), part.definition)
    if part.checkpoint is not None:
        _forget(environment, txn, layout.key(layout.CHECKPOINT, stream))
        _forget(environment, txn, layout.key(layout.REMOVALS, stream))
        for name, piece in layout.pieces(stream, part.checkpoint):
            put(txn, name, piece)
    elif part.removals:
        put(txn, _next(environment, txn, layout.key(layout.REMOVALS, stream)), part.removals)
    if part.totals is not None:
        put(txn, layout.key(layout.TOTALS, stream), part.totals)
    if part.ids:
        first = _next(environment, txn, layout.key(layout.IDS, stream))
        for number, segment in enumerate(part.ids, int.from_bytes(first[-8:], "big")):
            put(txn, first[:-8] + key(number), segment)
    if part.ids_drop:
        _forget(environment, txn, layout.key(layout.IDS, stream), part.ids_drop)
    for consumer, definition in part.consumers.items():
        put(txn, layout.key(layout.CONSUMER, stream, consumer), definition)
    for consumer, state in part.consumer_states.items():
        put(txn, layout.key(layout.CONSUMER_STATE, stream, consumer), state)
    for consumer in part.consumers_drop:
        txn.delete(layout.key(layout.CONSUMER, stream, consumer), db=environment.meta)
        txn.delete(layout.key(layout.CONSUMER_STATE, stream, consumer), db=environment.meta)


def _drop(environment: Environment, txn: Transaction[bytes], stream: int) -> None:
    for kind in layout.OF_STREAM:
        _forget(environment, txn, layout.key(kind, stream))
    database = environment.databases.pop(stream, None)
    if database is not None:
        txn.drop(database)


def _next(environment: Environment, txn: Transaction[bytes], prefix: bytes) -> bytes:
    """Key behind the last one that starts with `prefix`."""
    with txn.cursor(db=environment.meta) as cursor:
        found = cursor.prev() if cursor.set_range(prefix + key(_LAST)) else cursor.last()
        name = cursor.key() if found else b""
    number = int.from_bytes(name[9:], "big") + 1 if name.startswith(prefix) and len(name) == 17 else 0
    return prefix + key(number)


def _forget(environment: Environment, txn: Transaction[bytes], prefix: bytes, limit: int | None = None) -> None:
    """Delete everything, or the first `limit` entries, whose key starts with `prefix`."""
    with txn.cursor(db=environment.meta) as cursor:
        if not cursor.set_range(prefix):
            return
        names = takewhile(lambda name: name.startswith(prefix), cursor.iternext(keys=True, values=False))
        count = sum(1 for _ in islice(names, limit))
        if count and cursor.set_range(prefix):
            for _ in range(count):
                cursor.delete()
