"""What Python reads of a record without decoding it: two numbers at fixed places."""

from __future__ import annotations

import struct
from typing import Final

_SEQUENCE: Final = struct.Struct("<Q")
_TIMESTAMP: Final = struct.Struct("<q")
#: One step of a scan.
SCAN_RECORDS: Final = 4096
SCAN_BYTES: Final = 4 << 20


def sequence_of(value: bytes) -> int:
    """The sequence inside a record (layout: streamd._engine, "The log of a stream")."""
    return int(_SEQUENCE.unpack_from(value, 5)[0])


def timestamp_of(value: bytes) -> int:
    """The time (ns) inside a record."""
    return int(_TIMESTAMP.unpack_from(value, 13)[0])
