"""MessagePack, as far as an entry of the Raft log uses it: one map from names to numbers and bytes.

Source: the MessagePack specification; raft.Log of hashicorp/raft 1.6.0 for the names.
"""

from __future__ import annotations

from typing import Final

#: First byte → bytes of the length that follows, for strings, byte arrays and extensions.
LENGTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
EXTENSIONS: Final = frozenset([0xC7, 0xC8, 0xC9])
NUMBERS: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
SIGNED: Final = frozenset([0xD0, 0xD1, 0xD2, 0xD3])
FIXED_EXTENSIONS: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
MAPS: Final = {0xDE: 2, 0xDF: 4}

Value = int | bytes | None


def unpack_map(data: bytes) -> dict[str, Value]:
    """Errors: ValueError."""
    reader = _Reader(data)
    return {reader.name(): reader.value() for _ in range(reader.map_size())}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def map_size(self) -> int:
        first = self._number(1)
        if 0x80 <= first <= 0x8F:
            return first & 0x0F
        if first in MAPS:
            return self._number(MAPS[first])
        raise ValueError(f"a map was expected, not 0x{first:02x}")

    def name(self) -> str:
        value = self.value()
        if not isinstance(value, bytes):
            raise ValueError("a name was expected")
        return value.decode()

    def value(self) -> Value:
        first = self._number(1)
        if first <= 0x7F:
            return first
        if first >= 0xE0:
            return first - 256
        if 0xA0 <= first <= 0xBF:
            return self._take(first & 0x1F)
        if first in NUMBERS:
            return int.from_bytes(self._take(NUMBERS[first]), "big", signed=first in SIGNED)
        if first in LENGTHS:
            size = self._number(LENGTHS[first])
            return self._take(size + (first in EXTENSIONS))
        if first in FIXED_EXTENSIONS:
            return self._take(FIXED_EXTENSIONS[first] + 1)
        if first in (0xC0, 0xC2, 0xC3):
            return None if first == 0xC0 else first - 0xC2
        raise ValueError(f"a value begins with 0x{first:02x}")

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise ValueError("it is cut off")
        found = self._data[self._at : end]
        self._at = end
        return found
