"""Protobuf's wire format, as far as reading a store needs it: fields in order, and the last value of each by type.

Guarantee:  any bytes give fields or a ValueError, in time linear in their length.
Source:     the encoding guide of protobuf; groups are unknown to proto3 and refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yields field number, wire type and value. Errors: ValueError."""
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        # Most tags and many sizes are one byte: the messages of a whole store come through here.
        if tag < 0x80:
            at += 1
        else:
            tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("field number 0")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value
            continue
        size = 0
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if size > end - at:
            raise ValueError(f"field {number} is cut off")
        piece = data[at : at + size]
        at += size
        yield number, kind, piece if kind == BYTES else int.from_bytes(piece, "little")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at an offset, below 2**64, and the offset behind it. Errors: ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number is too long")


class Message:
    """The fields of one message by number. Absent fields are zero; unknown ones are ignored; all errors are ValueError."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, _, value in fields(data):
            if number in self._fields:
                self._fields[number].append(value)
            else:
                self._fields[number] = [value]

    def number(self, field: int) -> int:
        """An unsigned number."""
        if field not in self._fields:
            return 0
        value = self._fields[field][-1]
        if not isinstance(value, int):
            raise ValueError(f"field {field} is not a number")
        return value

    def signed(self, field: int) -> int:
        """An int32 or int64."""
        value = self.number(field)
        return value - (1 << 64) if value >> 63 else value

    def raw(self, field: int) -> bytes:
        """Bytes."""
        if field not in self._fields:
            return b""
        value = self._fields[field][-1]
        if not isinstance(value, bytes):
            raise ValueError(f"field {field} is not bytes")
        return value

    def text(self, field: int) -> str:
        """UTF-8."""
        return self.raw(field).decode()

    def messages(self, field: int) -> list[Message]:
        """A repeated message."""
        found = []
        for value in self._fields.get(field, []):
            if not isinstance(value, bytes):
                raise ValueError(f"field {field} is not a message")
            found.append(Message(value))
        return found

    def numbers(self, field: int) -> list[int]:
        """Repeated unsigned numbers, packed or not."""
        found: list[int] = []
        for value in self._fields.get(field, []):
            if isinstance(value, int):
                found.append(value)
                continue
            at = 0
            while at < len(value):
                one, at = varint(value, at)
                found.append(one)
        return found
