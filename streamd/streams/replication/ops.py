"""What an entry of a stream group says, as bytes.

Shapes:  an entry is the time at which its proposer made it (i64, ns) and operations. An operation is its kind (u8), the uid of
         the stream or shelf that it concerns (u64), the length of what follows (u32), and a body. Little endian.
Guarantee:  an entry with one of `ALONE` holds nothing else: that one takes commits of its own, the others share one.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd._engine import Batch
    from streamd.streams.changes import Shelved

_TIME: Final = struct.Struct("<q")
_OP: Final = struct.Struct("<BQI")
_SIZED: Final = struct.Struct("<BQ")  # the same, its length follows
_NUMBER: Final = struct.Struct("<Q")
_ROW: Final = struct.Struct("<QIB")  # number, length of the definition, whether a state follows

PUBLISH: Final = 1  # an encoded batch
ROW: Final = 2  # a row, with or without a state
STATE: Final = 3  # a row's new state
DROP_ROW: Final = 4
OPEN: Final = 5  # the definition of a stream or shelf
CONFIGURE: Final = 6  # a stream's new definition
DROP: Final = 7
DELETE: Final = 8  # one message
PURGE: Final = 9
EXPIRE: Final = 10  # what is too old at the time of the entry
FREEZE: Final = 11  # the stream is about to move: nothing of it changes any more
ADOPT: Final = 12  # a stream that moved here
ALONE: Final = frozenset({OPEN, CONFIGURE, DROP, DELETE, PURGE, EXPIRE, FREEZE, ADOPT})
#: Those that take messages away because somebody asked for it.
OF_MESSAGES: Final = frozenset({DELETE, PURGE})
#: Uids from here on are given by the leaders of groups, for what the meta group doesn't decide on.
FIRST_OWN_UID: Final = 1 << 62


class Op(NamedTuple):
    """One operation."""

    kind: int
    uid: int
    body: bytes

    @property
    def size(self) -> int:
        """Bytes in the entry."""
        return _OP.size + len(self.body)


class OpRows:
    """Rows of one change, as operations."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def put(self, owner: Shelved, number: int, definition: bytes, state: bytes | None = None) -> None:
        """Put a row."""
        if number:
            self.ops.append(row(owner.uid, number, definition, state))

    def drop(self, owner: Shelved, number: int) -> None:
        """Take a row away."""
        if number:
            self.ops.append(numbered(DROP_ROW, owner.uid, number))


def encode(now_ns: int, ops: Iterable[Op]) -> bytes:
    """An entry."""
    return b"".join(pieces(now_ns, ops))


def pieces(now_ns: int, ops: Iterable[Op]) -> list[bytes]:
    """An entry, to be joined."""
    parts = [_TIME.pack(now_ns)]
    for kind, uid, body in ops:
        parts += (_OP.pack(kind, uid, len(body)), body)
    return parts


def publish(prefix: bytes, now_ns: int, uid: int, batch: Batch) -> bytes:
    """A prefix, and an entry that is a batch and nothing else."""
    return batch.encode_behind(prefix + _TIME.pack(now_ns) + _SIZED.pack(PUBLISH, uid))


def decode(entry: bytes) -> tuple[int, list[Op]]:
    """The time and the operations; of an entry that is a view, the body of a PUBLISH is one as well.

    Errors: ValueError for what `encode` never makes.
    """
    try:
        (now_ns,) = _TIME.unpack_from(entry)
        found, at = [], _TIME.size
        while at < len(entry):
            kind, uid, length = _OP.unpack_from(entry, at)
            at += _OP.size
            body = entry[at : at + length]
            at += length
            found.append(Op(kind, uid, body if kind == PUBLISH else bytes(body)))
    except struct.error as error:
        raise ValueError(f"not an entry of a stream group: {error}") from None
    if at != len(entry):
        raise ValueError("an entry of a stream group is cut short")
    return now_ns, found


def row(uid: int, number: int, definition: bytes, state: bytes | None) -> Op:
    """Put a row."""
    head = _ROW.pack(number, len(definition), state is not None)
    return Op(ROW, uid, head + definition + (state or b""))


def row_of(body: bytes) -> tuple[int, bytes, bytes | None]:
    """(number, definition, state) of a ROW. Errors: ValueError."""
    try:
        number, length, has_state = _ROW.unpack_from(body)
    except struct.error as error:
        raise ValueError(f"not a row: {error}") from None
    edge = _ROW.size + length
    return number, body[_ROW.size : edge], body[edge:] if has_state else None


def state(uid: int, number: int, value: bytes) -> Op:
    """Put a row's state."""
    return Op(STATE, uid, _NUMBER.pack(number) + value)


def state_of(body: bytes) -> tuple[int, bytes]:
    """(number, state) of a STATE. Errors: ValueError."""
    return number_of(body), body[_NUMBER.size :]


def numbered(kind: int, uid: int, number: int) -> Op:
    """DROP_ROW or DELETE."""
    return Op(kind, uid, _NUMBER.pack(number))


def number_of(body: bytes) -> int:
    """The number of a DROP_ROW or DELETE. Errors: ValueError."""
    try:
        return int(_NUMBER.unpack_from(body)[0])
    except struct.error as error:
        raise ValueError(f"no number: {error}") from None


def purge(uid: int, pattern: str | None, below: int, keep: int) -> Op:
    """Remove what matches (None: everything) below a sequence (0: no bound) but the last `keep`."""
    return Op(PURGE, uid, json.dumps([pattern, below, keep]).encode())


def purge_of(body: bytes) -> tuple[str | None, int, int]:
    """(pattern, below, keep) of a PURGE. Errors: ValueError."""
    pattern, below, keep = json.loads(body)
    return pattern, below, keep


def defined(kind: int, uid: int, definition: dict[str, Any]) -> Op:
    """OPEN or CONFIGURE."""
    return Op(kind, uid, json.dumps(definition).encode())
