"""Where things lie inside the environment.

    database "meta"    everything but records; key = one letter, then ids of 8 bytes, big endian
        F                       format of what is inside
        N                       number of the last commit: LMDB's meta pages have no checksum, this ties
                                them to a content
        E                       1 while running, 0 after a clean stop
        S <stream>              definition (opaque to the store)
        T <stream>              totals of the index
        C <stream> <n:4>        checkpoint of the index, piece n; piece 0 starts with their number
        R <stream> <n>          removals since the checkpoint
        I <stream> <n>          message ids within the duplicate window
        K <stream> <consumer>   definition of a consumer
        P <stream> <consumer>   its state
        D <stream>              a damaged stream that was removed: its pages are lost until a restore
    database "s<stream>"        sequence (8 bytes, big endian) → record
                                sequence of the last, count (2 bytes, big endian) → a pack of records

Names chosen by clients are never keys: LMDB keys end at 511 bytes. Every value of "meta" carries a crc32
over key and value, so a flipped key is found as well as a flipped value; records carry their own checksum.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from streamd import limits

META: Final = b"meta"
FORMAT: Final = b"F"
COMMIT: Final = b"N"
RUNNING: Final = b"E"
DEFINITION: Final = b"S"
TOTALS: Final = b"T"
CHECKPOINT: Final = b"C"
REMOVALS: Final = b"R"
IDS: Final = b"I"
CONSUMER: Final = b"K"
CONSUMER_STATE: Final = b"P"

ABANDONED: Final = b"D"

OF_STREAM: Final = (DEFINITION, TOTALS, CHECKPOINT, REMOVALS, IDS, CONSUMER, CONSUMER_STATE)

_id = struct.Struct(">Q")
_piece = struct.Struct(">I")
_crc = struct.Struct("<I")


def database(stream: int) -> bytes:
    """Name of the database that holds a stream's records."""
    return b"s%d" % stream


def key(kind: bytes, stream: int, part: int | None = None) -> bytes:
    """Key of something that belongs to a stream; `part` is a consumer or a running number."""
    return kind + _id.pack(stream) + (b"" if part is None else _id.pack(part))


def piece_key(stream: int, piece: int) -> bytes:
    """Key of one piece of a checkpoint."""
    return CHECKPOINT + _id.pack(stream) + _piece.pack(piece)


def ids(key: bytes) -> tuple[int, int | None]:
    """(stream, part) of a key that `key` or `piece_key` made. Errors: ValueError if it can't be one."""
    if len(key) == 9:
        return _id.unpack_from(key, 1)[0], None
    if len(key) == 13:
        return _id.unpack_from(key, 1)[0], _piece.unpack_from(key, 9)[0]
    if len(key) == 17:
        return _id.unpack_from(key, 1)[0], _id.unpack_from(key, 9)[0]
    raise ValueError(f"key {key[:16].hex()} of {len(key)} bytes")


def seal(key: bytes, value: bytes) -> bytes:
    """The stored form of a value."""
    return _crc.pack(zlib.crc32(value, zlib.crc32(key))) + value


def unseal(key: bytes, stored: bytes) -> bytes:
    """The value again. Errors: ValueError if key or value are not what was stored."""
    if len(stored) < 4 or _crc.unpack_from(stored)[0] != zlib.crc32(memoryview(stored)[4:], zlib.crc32(key)):
        raise ValueError(f"checksum of key {key[:17].hex()}")
    return stored[4:]


def pieces(stream: int, checkpoint: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A checkpoint as (key, value) pairs."""
    size = limits.META_CHUNK_BYTES
    count = max(1, -(-len(checkpoint) // size))
    for n in range(count):
        part = checkpoint[n * size : (n + 1) * size]
        yield piece_key(stream, n), (_piece.pack(count) + part if n == 0 else part)


def join(parts: list[bytes]) -> bytes:
    """A checkpoint from its pieces in order. Errors: ValueError if one is missing."""
    (count,) = _piece.unpack_from(parts[0])
    if count != len(parts):
        raise ValueError(f"checkpoint of {count} pieces has {len(parts)}")
    return b"".join([parts[0][4:], *parts[1:]])
