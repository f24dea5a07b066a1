"""Whether a file may be handed to LMDB: its C code trusts every page it walks.

Guarantee:  `verify` looks at the file as bytes only, so no damage can end this process.
Not here:   what the pages hold; records and meta values carry checksums.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING, Final

from streamd import _engine, limits
from streamd.errors import StoreCorrupt

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC: Final = 0xBEEFC0DE
# Of a meta page: header, magic, version, address, map size; then the page size lies in the free list's
# description. The last page and the number of the commit end it.
_HEAD: Final = struct.Struct("=16xIIQQI")
_TAIL: Final = struct.Struct("=QQ")
_TAIL_AT: Final = 16 + 24 + 2 * 48


def verify(directory: Path, data: Path) -> dict[bytes, str]:
    """What is wrong with which databases; {} if nothing. The leaves are read up to STORE_VERIFY_BYTES_MAX.

    Errors: StoreCorrupt if damage isn't confined to databases, OSError.
    """
    with data.open("r+b") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise StoreCorrupt(directory, f"{data.name} ends after {len(head)} bytes")
        magic, _version, _address, _map_bytes, page_bytes = _HEAD.unpack(head)
        if magic != _MAGIC or page_bytes & (page_bytes - 1) or not 512 <= page_bytes <= 65536:
            raise StoreCorrupt(directory, f"{data.name} has no sound first page")
        _lengthen(file.fileno(), page_bytes)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            thorough = len(view) <= limits.STORE_VERIFY_BYTES_MAX
            found = _engine.verify_pages(view, page_bytes, thorough=thorough)
    damages: dict[bytes, str] = {}
    for database, text in found:
        if database is None:
            raise StoreCorrupt(directory, text)
        damages[database] = text
    return damages


def _lengthen(descriptor: int, page_bytes: int) -> None:
    """Make the file as long as its meta pages say.

    LMDB doesn't write pages that a commit took and gave back, so 2 % of commits end behind the end of the
    file. A file that was cut short becomes as long as well: its zeros are no sound pages.
    """
    size = os.fstat(descriptor).st_size
    tails = [_TAIL.unpack(os.pread(descriptor, _TAIL.size, at + _TAIL_AT).ljust(16, b"\0")) for at in (0, page_bytes)]
    last_page = max(tails, key=lambda tail: tail[1])[0]
    wanted = (last_page + 1) * page_bytes
    if size < wanted <= size + limits.STORE_LENGTHEN_BYTES_MAX:
        os.truncate(descriptor, wanted)
