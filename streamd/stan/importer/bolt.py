"""A bbolt database as a file that nobody has open: its buckets and what is in them.

    page    | id 8 | flags 2 | count 2 | overflow 4 | elements …      all numbers in the machine's order: little-endian
    branch  | pos 4 | key size 4 | page 8 |
    leaf    | flags 4 | pos 4 | key size 4 | value size 4 |            flags 1: the value is a bucket
    bucket  | root page 8 | sequence 8 | the page itself, if root is 0 |
    meta    | magic 4 | version 4 | page size 4 | flags 4 | root bucket 16 | freelist 8 | pages 8 | transaction 8 | FNV-1a 8 |

Pages 0 and 1 are metas; the valid one of the later transaction counts. Source: go.etcd.io/bbolt 1.3.8, page.go and db.go.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = 0xED0CDAED
VERSION: Final = 2
PAGE: Final = struct.Struct("<QHHI")
BRANCH: Final = struct.Struct("<IIQ")
LEAF: Final = struct.Struct("<IIII")
META: Final = struct.Struct("<IIIIQQQQQQ")
BUCKET: Final = struct.Struct("<QQ")
META_CHECKED_BYTES: Final = 56
IS_BRANCH: Final = 1
IS_LEAF: Final = 2
IS_BUCKET: Final = 1
#: A tree of 2**64 pages is less deep than this, a page that names itself is not.
DEPTH_MAX: Final = 64


class Bolt:
    """The file. Every method raises ValueError where it is damaged, OSError where it can't be read."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._page_bytes, self._root = self._meta()
        except ValueError:
            self._data.close()
            raise

    def close(self) -> None:
        """Unmap."""
        self._data.close()

    def bucket(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields the pairs of a bucket of the top level by ascending key; nothing if there is none."""
        for flags, key, value in self._tree(self._root, 0):
            if flags & IS_BUCKET and key == name:
                if len(value) < BUCKET.size:
                    raise ValueError("a bucket is cut off")
                root, _ = BUCKET.unpack_from(value)
                found = self._tree(root, 0) if root else self._leaf(value[BUCKET.size :], 0)
                for _, inner, content in found:
                    yield inner, content
                return

    def _meta(self) -> tuple[int, int]:
        """Page size and root page of the last whole transaction."""
        first = self._meta_at(0)
        sizes = [first[1]] if first else [1 << shift for shift in range(9, 17)]
        metas = [first, *(self._meta_at(size) for size in sizes)]
        whole = [meta for meta in metas if meta is not None]
        if not whole:
            raise ValueError("it has no valid meta page")
        _, page_bytes, root = max(whole)
        return page_bytes, root

    def _meta_at(self, offset: int) -> tuple[int, int, int] | None:
        start = offset + PAGE.size
        if start + META.size > len(self._data):
            return None
        magic, version, page_bytes, _, root, _, _, _, transaction, checksum = META.unpack_from(self._data, start)
        if magic != MAGIC or version != VERSION or checksum != fnv1a(self._data[start : start + META_CHECKED_BYTES]):
            return None
        return transaction, page_bytes, root

    def _tree(self, number: int, depth: int) -> Iterator[tuple[int, bytes, bytes]]:
        if depth > DEPTH_MAX:
            raise ValueError(f"page {number} is below itself")
        offset = number * self._page_bytes
        if offset + PAGE.size > len(self._data):
            raise ValueError(f"page {number} is behind the end")
        _, flags, count, overflow = PAGE.unpack_from(self._data, offset)
        page = self._data[offset : offset + (overflow + 1) * self._page_bytes]
        if flags & IS_LEAF:
            yield from self._leaf(page, number)
        elif flags & IS_BRANCH:
            if PAGE.size + count * BRANCH.size > len(page):
                raise ValueError(f"page {number} is cut off")
            for index in range(count):
                yield from self._tree(BRANCH.unpack_from(page, PAGE.size + index * BRANCH.size)[2], depth + 1)
        else:
            raise ValueError(f"page {number} is of an unknown kind {flags}")

    def _leaf(self, page: bytes, number: int) -> Iterator[tuple[int, bytes, bytes]]:
        if len(page) < PAGE.size:
            raise ValueError(f"page {number} is cut off")
        count = PAGE.unpack_from(page)[2]
        for index in range(count):
            at = PAGE.size + index * LEAF.size
            if at + LEAF.size > len(page):
                raise ValueError(f"page {number} is cut off")
            flags, pos, key_bytes, value_bytes = LEAF.unpack_from(page, at)
            middle = at + pos + key_bytes
            if middle + value_bytes > len(page):
                raise ValueError(f"page {number} is cut off")
            yield flags, page[at + pos : middle], page[middle : middle + value_bytes]


def fnv1a(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFF_FFFF_FFFF_FFFF
    return value
