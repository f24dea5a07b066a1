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

from streamd._engine import frame_decode
from streamd.raft.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamd.raft.net import Data, NodeId

VERSION: Final = 1
_LENGTH: Final = struct.Struct(">H")
_MESSAGE: Final = struct.Struct(">BHQQQQQI")
_ENTRY: Final = struct.Struct(">QI")

_new: Final = tuple.__new__  # without a look at the fields

NUMBER_MAX: Final = (1 << 62) - 1  # terms and indexes; a store takes 63 bits

#: First byte of an entry. The first two are the library's.
REGULAR: Final = 0
NO_OP: Final = 1
CONFIG: Final = 4

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


class Encoded(NamedTuple):
    """A message as bytes, in pieces: the commands of its entries aren't copied before there is a frame."""

    size: int
    parts: tuple[bytes, ...]


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

    def encode(self) -> Encoded:
        """As bytes."""
        group = self.group.encode()
        kind, _, term, at, at_term, commit, round_, entries = self
        head = _MESSAGE.pack(kind, len(group), term, at, at_term, commit, round_, len(entries)) + group
        size = len(head)
        if not entries:
            return Encoded(size, (head,))
        parts = [head]
        for entry_term, command in entries:
            parts += (_ENTRY.pack(entry_term, len(command)), command)
            size += _ENTRY.size + len(command)
        return Encoded(size, tuple(parts))


class Frame(NamedTuple):
    """All that one node says to another at once."""

    sender: NodeId
    receiver: NodeId
    messages: list[Message]


def head(sender: NodeId, receiver: NodeId) -> bytes:
    """What a frame begins with; encoded messages follow."""
    one, other = sender.encode(), receiver.encode()
    return b"".join((bytes((VERSION,)), _LENGTH.pack(len(one)), one, _LENGTH.pack(len(other)), other))


def encode(sender: NodeId, receiver: NodeId, messages: Iterable[Encoded]) -> bytes:
    """A frame of encoded messages."""
    return b"".join((head(sender, receiver), *(part for message in messages for part in message.parts)))


def decode(data: Data) -> Frame | None:
    """A frame as it came, None if it isn't one."""
    found = frame_decode(data)
    if found is None:
        return None
    sender, receiver, fields, configs = found
    messages = [_new(Message, each) for each in fields]
    if configs and not _sound(messages):
        return None
    return Frame(sender, receiver, messages)


def _sound(messages: list[Message]) -> bool:
    """Whether all configurations in entries are some."""
    try:
        for message in messages:
            for _, command in message.entries:
                if command[0] == CONFIG:
                    Config.decode(command[1:])
    except (struct.error, ValueError):
        return False
    return True
