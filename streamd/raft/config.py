"""Who belongs to a group.

A configuration is an entry of the journal and holds from the moment it is appended. As bytes:

    u16 number of voters | u16 number of learners | each: u16 length, id in UTF-8          (big endian)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamd.raft.net import NodeId

_HEAD: Final = struct.Struct(">HH")
_LENGTH: Final = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Config:
    """Voters and learners, sorted; nobody is both."""

    voters: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()

    @property
    def quorum(self) -> int:
        """How many voters decide."""
        return len(self.voters) // 2 + 1

    def with_learner(self, node: NodeId) -> Config:
        """With one more learner."""
        return Config(self.voters, tuple(sorted({*self.learners, node})))

    def with_voter(self, node: NodeId) -> Config:
        """With one more voter, who may have been a learner."""
        return Config(tuple(sorted({*self.voters, node})), tuple(n for n in self.learners if n != node))

    def without(self, node: NodeId) -> Config:
        """Without a node."""
        return Config(tuple(n for n in self.voters if n != node), tuple(n for n in self.learners if n != node))

    def encode(self) -> bytes:
        """As bytes."""
        parts = [_HEAD.pack(len(self.voters), len(self.learners))]
        for node in (*self.voters, *self.learners):
            name = node.encode()
            parts += (_LENGTH.pack(len(name)), name)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Config:
        """From bytes. Errors: ValueError."""
        try:
            voters, learners = _HEAD.unpack_from(data)
            names, at = [], _HEAD.size
            for _ in range(voters + learners):
                (length,) = _LENGTH.unpack_from(data, at)
                at += _LENGTH.size + length
                if at > len(data):
                    raise ValueError("a name is cut short")
                names.append(bytes(data[at - length : at]).decode())
        except struct.error as error:
            raise ValueError(f"configuration of {len(data)} bytes") from error
        if at != len(data):
            raise ValueError(f"{len(data) - at} bytes behind a configuration")
        return cls(tuple(names[:voters]), tuple(names[voters:]))
