"""Messages as they travel.

Guarantee:  a frame that isn't one decodes to None; nothing in it is ever evaluated.

    frame    version | sender: u16 length, id | receiver: u16 length, id | messages
    message  kind | u16 length, group | u64 term, at, at_term, commit, round | u32 number of entries | entries
    entry    u64 term | u32 length | kind and command                            (big endian)

The term is the sender's, of the moment the message was made, not of when it left.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from streamd.raft.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd.raft.net import NodeId

VERSION: Final = 1
_LENGTH: Final = struct.Struct(">H")
_MESSAGE: Final = struct.Struct(">BHQQQQQI")
_ENTRY: Final = struct.Struct(">QI")

NUMBER_MAX: Final = (1 << 62) - 1  # terms and indexes; a store takes 63 bits

#: First byte of an entry. The first two are the library's.
REGULAR: Final = 0
NO_OP: Final = 1
CONFIG: Final = 4
_ENTRY_KINDS: Final = (REGULAR, NO_OP, CONFIG)

#: (term, kind byte and command); its index follows from where it stands.
Entry: TypeAlias = tuple[int, bytes]


class Kind(IntEnum):
    """What a message is, and what its fields say; those not named are 0."""

    APPEND = 1  # at and at_term: of the entry before the entries; commit; round
    APPENDED = 2  # at: up to here the receiver's log is the sender's; round
    REJECTED = 3  # at: that of the append; commit: where to try next; round
    VOTE = 4  # at and at_term: of the last entry
    VOTE_FORCED = 5  # the same, at the leader's wish
    VOTED = 6
    PREVOTE = 7  # as VOTE; round: told again in the answer
    PREVOTED = 8  # round
    NOTICE = 9  # the term is newer than yours
    CAMPAIGN = 10  # the leader wishes you to take over
    OFFER = 11  # at and at_term: the entries up to here are gone, fetch the state; as an entry, the configuration there


class Message(NamedTuple):
    """One message of a group."""

    kind: int
    group: str
    term: int
    at: int = 0
    at_term: int = 0
    commit: int = 0
    round: int = 0
    entries: tuple[Entry, ...] = ()

    def encode(self) -> bytes:
        """As bytes."""
        group = self.group.encode()
        kind, _, term, at, at_term, commit, round_, entries = self
        head = _MESSAGE.pack(kind, len(group), term, at, at_term, commit, round_, len(entries)) + group
        if not entries:
            return head
        parts = [head]
        for entry_term, command in entries:
            parts += (_ENTRY.pack(entry_term, len(command)), command)
        return b"".join(parts)


class Frame(NamedTuple):
    """All that one node says to another at once."""

    sender: NodeId
    receiver: NodeId
    messages: list[Message]


def encode(sender: NodeId, receiver: NodeId, messages: Iterable[bytes]) -> bytes:
    """A frame of encoded messages."""
    one, other = sender.encode(), receiver.encode()
    return b"".join(
        (bytes((VERSION,)), _LENGTH.pack(len(one)), one, _LENGTH.pack(len(other)), other, *messages),
    )


def decode(data: bytes) -> Frame | None:
    """A frame as it came, None if it isn't one."""
    try:
        return _decode(data)
    except (struct.error, ValueError):
        return None


def _decode(data: bytes) -> Frame:
    if not data or data[0] != VERSION:
        raise ValueError("another version")
    sender, at = _text(data, 1)
    receiver, at = _text(data, at)
    messages = []
    while at < len(data):
        kind, length, term, index, at_term, commit, round_, count = _MESSAGE.unpack_from(data, at)
        if (term | index | at_term | commit) > NUMBER_MAX:
            raise ValueError("a number beyond all that are stored")
        at += _MESSAGE.size
        group = _cut(data, at, length).decode()
        at += length
        entries: list[Entry] = []
        # Each entry takes some bytes: a count that lies ends at the end of the frame.
        for _ in range(count):
            entry_term, length = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size
            command = _cut(data, at, length)
            at += length
            _check(entry_term, command)
            entries.append((entry_term, command))
        messages.append(Message(Kind(kind), group, term, index, at_term, commit, round_, tuple(entries)))
    return Frame(sender, receiver, messages)


def _check(term: int, command: bytes) -> None:
    if term > NUMBER_MAX or not command or command[0] not in _ENTRY_KINDS:
        raise ValueError("unknown kind of entry")
    if command[0] == CONFIG:
        Config.decode(command[1:])


def _text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    return _cut(data, at, length).decode(), at + length


def _cut(data: bytes, at: int, length: int) -> bytes:
    part = data[at : at + length]
    if len(part) != length:
        raise ValueError("cut short")
    return part
