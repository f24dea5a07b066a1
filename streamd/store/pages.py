"""Whether a file may be handed to LMDB: its C code trusts every page it walks.

Guarantee:  `verify` looks at the file as bytes only, so no damage can end this process.
Not here:   what the pages hold; records and meta values carry checksums.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

from streamd import _engine
from streamd.errors import StoreCorrupt

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC: Final = 0xBEEFC0DE
# Of a meta page: header, magic, version, address, map size; then the page size lies in the free list's
# description.
_HEAD: Final = struct.Struct("=16xIIQQI")


def verify(directory: Path, data: Path) -> None:
    """Check metas and branch pages. Errors: StoreCorrupt, OSError."""
    with data.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise StoreCorrupt(directory, f"{data.name} ends after {len(head)} bytes")
        magic, _version, _address, _map_bytes, page_bytes = _HEAD.unpack(head)
        if magic != _MAGIC or page_bytes & (page_bytes - 1) or not 512 <= page_bytes <= 65536:
            raise StoreCorrupt(directory, f"{data.name} has no sound first page")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            sound, found = _engine.verify_pages(view, page_bytes)
    if not sound:
        raise StoreCorrupt(directory, found)
