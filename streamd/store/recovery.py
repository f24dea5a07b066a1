"""What a store holds when it is opened, and the index of each stream from it.

In the walk:  the server calls `recover`, makes its streams from the definitions, and `restore_state` for
              each.
Guarantee:    damage is told, never passed on: a damaged stream carries its reason and is left as it is; the
              others go on.
Not here:     what a definition means; the caller reads it and gives the limits back.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamd import _engine, limits
from streamd.errors import StoreCorrupt, StreamCorrupt
from streamd.store import layout

if TYPE_CHECKING:
    from pathlib import Path

    from streamd._engine import StreamState
    from streamd.store.environment import Environment
    from streamd.store.log import StreamLog
    from streamd.store.work import Work

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class StoredConsumer:
    """A consumer as found."""

    consumer: int
    definition: bytes = b""
    state: bytes | None = None


@dataclass(slots=True)
class StoredStream:
    """A stream as found."""

    stream: int
    definition: bytes = b""
    totals: bytes | None = None
    checkpoint: bytes | None = None
    pieces: list[bytes] = field(default_factory=list)  # of the checkpoint, while it is read
    removals: list[bytes] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    consumers: dict[int, StoredConsumer] = field(default_factory=dict)
    damage: StreamCorrupt | None = None  # keep it offline with this reason; never delete it unasked

    def follow(self, journaled: Work) -> None:
        """Catch up with what LMDB hasn't taken over yet."""
        part = journaled.logs.get(self.stream)
        if part is not None:
            self.totals = part.totals or self.totals
            self.ids = (self.ids + part.ids)[part.ids_drop :]

    @property
    def name(self) -> str:
        """The name in the definition, for messages; the number if that can't be read."""
        try:
            name = json.loads(self.definition)["name"]
        except (ValueError, KeyError, TypeError):
            return f"number {self.stream}"
        return name if isinstance(name, str) else f"number {self.stream}"


def recover(environment: Environment) -> list[StoredStream]:
    """All that is stored but records, by stream id.

    Errors: StoreCorrupt if damage can't be tied to a stream.
    """
    with environment.read() as txn:
        with txn.cursor(db=environment.meta) as cursor:
            entries = list(cursor)
        count = txn.stat(environment.meta)["entries"]
    if count != len(entries):
        raise StoreCorrupt(environment.directory, f"{len(entries)} of {count} entries are found")
    found = {stream: StoredStream(stream) for stream in (*environment.databases, *environment.damaged)}
    damages: dict[int, str] = {}
    for key, stored in entries:
        try:
            value = layout.unseal(key, stored)
        except ValueError as error:
            # A flip in the key moves an entry elsewhere; the stream that misses it is the damaged one.
            key, value = _mended(key, stored), b""
            if key[:1] not in (*layout.OF_STREAM, layout.ABANDONED):
                raise StoreCorrupt(environment.directory, str(error)) from error
            damages.setdefault(_ids(environment.directory, key)[0], str(error))
        if key[:1] == layout.ABANDONED:
            found.pop(_ids(environment.directory, key)[0], None)
        if key[:1] in layout.OF_STREAM:
            stream, part = _ids(environment.directory, key)
            _file(found.setdefault(stream, StoredStream(stream)), key[:1], part, value)
    for stream, stored_stream in found.items():
        _complete(stored_stream, environment, damages.get(stream, ""))
    return [found[stream] for stream in sorted(found)]


def recover_stream(environment: Environment, stream: int) -> StoredStream | None:
    """All that is stored of one stream but its records, by its keys alone; None if it isn't there."""
    found, reason = StoredStream(stream), ""
    there = stream in environment.databases or stream in environment.damaged
    with environment.read() as txn, txn.cursor(db=environment.meta) as cursor:
        for kind in layout.OF_STREAM:
            prefix = layout.key(kind, stream)
            for key, stored in cursor if cursor.set_range(prefix) else ():
                if not key.startswith(prefix):
                    break
                there = True
                try:
                    _file(found, kind, layout.ids(key)[1], layout.unseal(key, stored))
                except ValueError as error:
                    reason = reason or str(error)
    if not there:
        return None
    _complete(found, environment, reason)
    return found


def restore_state(environment: Environment, stored: StoredStream, log: StreamLog, **options: Any) -> StreamState:
    """The index of a stream: checkpoint, removals, and the records since; from all records if those don't
    agree.

    Shapes: options are the limits that `StreamState` takes.
    Errors: StreamCorrupt, with the way out; StoreError.
    """
    if stored.damage is not None:
        raise stored.damage
    directory, name = environment.directory, stored.name
    reason = "the index does not agree with the records"
    state = None
    try:
        state, start = _engine.StreamState.restore(name, stored.checkpoint, stored.removals, stored.totals, **options)
    except _engine.CorruptRecord as error:
        reason = str(error)
    try:
        if state is None or not _replay(state, log, start):
            _log.warning("store.index_rebuilt stream=%s reason=%s", name, reason)
            state, start = _engine.StreamState.restore(name, None, [], stored.totals, **options)
            if not _replay(state, log, start):
                raise StreamCorrupt(directory, name, "records are missing that nothing says were deleted")
        # Not by the clock: of what is replicated, each server must know the same ids.
        state.replay_ids(stored.ids, state.last_ts_ns)
        records = log.count()
    except _engine.CorruptRecord as error:
        raise StreamCorrupt(directory, name, str(error)) from error
    if records != state.messages:
        raise StreamCorrupt(directory, name, f"{records} records where the index knows {state.messages}")
    return state


def checkpoint_due(changes: int, subjects: int) -> bool:
    """Whether a stream with so many records and removals since its last checkpoint should write one."""
    return changes >= max(limits.CHECKPOINT_CHANGES_MIN, 2 * subjects)


def _replay(state: StreamState, log: StreamLog, start: int) -> bool:
    while values := log.read(start, limits.REPLAY_RECORDS):
        state.replay(values)
        last = _engine.record_decode(values[-1]).sequence
        if last < start:
            # A damaged key: reading on from here would come by again and again.
            raise _engine.CorruptRecord(f"sequence {last} lies behind {start}")
        start = last + 1
    return state.replayed()


def _file(found: StoredStream, kind: bytes, part: int | None, value: bytes) -> None:
    """Put an entry in its place; entries come in the order of their keys."""
    if kind == layout.DEFINITION:
        found.definition = value
    elif kind == layout.TOTALS:
        found.totals = value
    elif kind == layout.CHECKPOINT:
        found.pieces.append(value)
    elif kind == layout.REMOVALS:
        found.removals.append(value)
    elif kind == layout.IDS:
        found.ids.append(value)
    elif part is not None:
        consumer = found.consumers.setdefault(part, StoredConsumer(part))
        if kind == layout.CONSUMER:
            consumer.definition = value
        else:
            consumer.state = value


def _complete(found: StoredStream, environment: Environment, reason: str) -> None:
    """Join what belongs together, and note what damage there is; `reason`: what was found so far."""
    reason = reason or environment.damaged.get(found.stream) or _incomplete(found, environment)
    if reason:
        found.damage = StreamCorrupt(environment.directory, found.name, reason)
        _log.error("store.stream_damaged stream=%s reason=%s", found.name, reason)


def _incomplete(found: StoredStream, environment: Environment) -> str:
    """What is missing, "" if nothing; joins the checkpoint."""
    if not found.definition:
        return "its definition is missing"
    if found.stream not in environment.databases:
        return "its records are missing"
    for consumer in found.consumers.values():
        if not consumer.definition:
            return f"the definition of its consumer number {consumer.consumer} is missing"
    try:
        found.checkpoint = layout.join(found.pieces) if found.pieces else None
    except ValueError as error:
        # The records tell all that a checkpoint does.
        _log.warning("store.checkpoint_dropped stream=%s reason=%s", found.name, error)
    found.pieces.clear()
    return ""


def _mended(key: bytes, stored: bytes) -> bytes:
    """The key with which the entry was stored, as far as one flipped bit explains the difference."""
    number = int.from_bytes(key, "big")
    for bit in range(8 * len(key)):
        other = (number ^ 1 << bit).to_bytes(len(key), "big")
        try:
            layout.unseal(other, stored)
        except ValueError:
            continue
        return other
    return key


def _ids(directory: Path, key: bytes) -> tuple[int, int | None]:
    try:
        return layout.ids(key)
    except ValueError as error:
        raise StoreCorrupt(directory, str(error)) from error
