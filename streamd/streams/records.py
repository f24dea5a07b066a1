"""Records and header blocks as Python reads and shows them."""

from __future__ import annotations

import struct
from typing import Final

from streamd._engine import record_decode
from streamd.api.wire import time_text

_TIMESTAMP: Final = struct.Struct("<q")
#: One step of a scan.
SCAN_RECORDS: Final = 4096
SCAN_BYTES: Final = 4 << 20


def timestamp_of(value: bytes) -> int:
    """The time (ns) inside a record."""
    return int(_TIMESTAMP.unpack_from(value, 13)[0])


def header(block: bytes, name: bytes) -> str | None:
    """The value of the first header of that name."""
    for line in block.split(b"\r\n")[1:]:
        key, colon, value = line.partition(b":")
        if colon and key == name:
            return value.strip().decode("utf-8", "replace")
    return None


def stored_headers(stream: str, value: bytes) -> bytes:
    """The header block of an answer: the message's own lines, then where it is stored."""
    record = record_decode(value)
    own = record.headers.removesuffix(b"\r\n\r\n") if record.headers else b"NATS/1.0"
    lines = (
        f"\r\nNats-Stream: {stream}\r\nNats-Subject: {record.subject}\r\nNats-Sequence: {record.sequence}"
        f"\r\nNats-Time-Stamp: {time_text(record.timestamp_ns)}\r\n\r\n"
    )
    return own + lines.encode("utf-8", "surrogateescape")
