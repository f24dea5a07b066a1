"""What this room raises.

RaftError
├── NotLeader        propose elsewhere
├── Overloaded       propose later
├── ChangeRefused    the configuration can't change like that, or not now
└── JournalDamaged   what the store holds of a group is no journal: its owner has to start anew as another node
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.errors import StreamdError

if TYPE_CHECKING:
    from streamd.raft.net import NodeId


class RaftError(StreamdError):
    """Anything this room raises on purpose."""


class NotLeader(RaftError):
    """This node doesn't lead the group, or is about to hand it over."""

    def __init__(self, group: str, leader: NodeId | None) -> None:
        """`leader` None: nobody is known to."""
        known = f"node {leader} leads it" if leader is not None else "no leader is known"
        super().__init__(f"group {group}: this node doesn't lead it, {known}")
        self.leader = leader


class Overloaded(RaftError):
    """As much as may wait for a quorum waits already."""

    def __init__(self, group: str, waiting_bytes: int) -> None:
        super().__init__(f"group {group}: {waiting_bytes} bytes wait for a quorum")
        self.waiting_bytes = waiting_bytes


class ChangeRefused(RaftError):
    """The configuration can't change like that, or not now."""

    def __init__(self, group: str, reason: str) -> None:
        super().__init__(f"group {group}: {reason}")
        self.reason = reason


class JournalDamaged(RaftError):
    """What the store holds of a group can't be its journal: promises this node made may be lost."""

    def __init__(self, group: str, found: str) -> None:
        super().__init__(
            f"group {group}: its journal is damaged ({found}); this node must join it anew, under another incarnation"
        )
        self.group = group
        self.found = found
