"""The record files of the file store: a version, then records of a header and a protobuf payload.

    0        4                    8          12
    | version | size, or type+size | CRC-32   | payload … | size … |      all numbers little-endian

A torn end, as a crash leaves it, is told and left out, where the original truncates it; a checksum that does not match is
an error wherever it stands. Source: readRecord, checkFileVersion and handleUnexpectedEOF of stores/filestore.go.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from streamd.stan.importer.errors import ImportRefused, StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Checksum = Callable[[bytes], int]
#: What is worth telling beside the state itself.
Tell = Callable[[str], None]

VERSION: Final = 1
VERSION_BYTES: Final = 4
HEADER: Final = struct.Struct("<II")
#: Go's notation of the polynomial, bits reversed.
IEEE: Final = 0xEDB88320
TYPE_SHIFT: Final = 24
SIZE_MASK: Final = (1 << TYPE_SHIFT) - 1


class Record(NamedTuple):
    """One record; `offset` is that of its header. `kind` is 0 in files without types."""

    offset: int
    kind: int
    payload: bytes


def checksum_of(poly: int = IEEE) -> Checksum:
    """CRC-32 with a polynomial in Go's reversed notation. Errors: ImportRefused if it is none."""
    if not 0 < poly <= 0xFFFF_FFFF:
        raise ImportRefused(f"{poly} is not a CRC polynomial: give the number that file_options has as crc_poly")
    if poly == IEEE:
        return zlib.crc32
    table = _table(poly)

    def checksum(data: bytes) -> int:
        value = 0xFFFF_FFFF
        for byte in data:
            value = table[(value ^ byte) & 0xFF] ^ value >> 8
        return value ^ 0xFFFF_FFFF

    return checksum


@cache
def _table(poly: int) -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (poly if value & 1 else 0)
        found.append(value)
    return tuple(found)


def open_versioned(path: Path) -> tuple[BinaryIO, int]:
    """The open file behind its version, and its size in bytes. Errors: ImportRefused. An empty file is one just created."""
    try:
        file = path.open("rb")
        size = path.stat().st_size
    except OSError as error:
        raise ImportRefused(
            f"{path} can't be read ({error.strerror}): run this as the user who owns the store"
        ) from None
    head = file.read(VERSION_BYTES)
    if head and len(head) < VERSION_BYTES:
        file.close()
        raise StoreDamaged(path, 0, "it ends within its version")
    version = int.from_bytes(head, "little")
    if head and version != VERSION:
        file.close()
        raise ImportRefused(
            f"{path} has format version {version}, known is {VERSION}: it is not a file of nats-streaming-server, "
            f"or damaged; restore it from a backup"
        )
    return file, size


def records(path: Path, checksum: Checksum, tell: Tell, *, typed: bool) -> Iterator[Record]:
    """Yields the records in order. Errors: ImportRefused, StoreDamaged."""
    file, total = open_versioned(path)
    offset = VERSION_BYTES
    with file:
        while header := file.read(HEADER.size):
            if len(header) < HEADER.size:
                tell(torn(path, offset, total))
                return
            size, expected = HEADER.unpack(header)
            if not size and not expected:
                return  # a file system that grew the file with zeros before a crash
            kind = size >> TYPE_SHIFT if typed else 0
            size = size & SIZE_MASK if typed else size
            if size > total - offset - HEADER.size:
                tell(torn(path, offset, total))
                return
            payload = file.read(size)
            check(path, offset, payload, expected, checksum)
            yield Record(offset, kind, payload)
            offset += HEADER.size + size


def check(path: Path, offset: int, payload: bytes, expected: int, checksum: Checksum) -> None:
    """Errors: StoreDamaged if the payload is not what its checksum was made of."""
    found = checksum(payload)
    if found != expected:
        raise StoreDamaged(path, offset, f"checksum 0x{found:08x}, its header says 0x{expected:08x}")


def torn(path: Path, offset: int, total: int) -> str:
    """What is told of a torn end."""
    return f"{path}: the last record, at byte {offset}, is torn; its {total - offset} bytes are left out"
