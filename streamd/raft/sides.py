"""What a replica stands between: the host on one side, the group and its machine on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from streamd.raft.envelope import Encoded
    from streamd.raft.net import NodeId
    from streamd.raft.replica import Replica


class Machine(Protocol):
    """What is replicated. No method may raise, nor call back into the group."""

    def committed(self, index: int, term: int, command: bytes) -> None:
        """A command: in order, once a run, from `applied` + 1 on; it is durable here. One of more than 64 KB is a view."""

    def role_changed(self) -> None:
        """`leading`, `leader`, `term` or `accepts` is another. `leading` turns True once everything before this leadership was
        handed to `committed`."""

    def behind(self, leader: NodeId) -> None:
        """The leader lacks the entries that are needed here: fetch its state, then call `installed`. Comes again at each
        heartbeat until then."""


class Home(Protocol):
    """The host, as a replica needs it."""

    @property
    def linked(self) -> AbstractSet[NodeId]:
        """Who can be reached, kept up to date."""

    def now(self) -> float:
        """Seconds."""

    def post(self, to: NodeId, message: Encoded) -> None:
        """Send a message with the next frame to that node."""

    def after(self, call: Callable[[], None]) -> None:
        """Call once the turn is over that is under way."""

    def wake(self, replica: Replica) -> None:
        """Give it a turn soon."""

    def turn(self, call: Callable[[], None]) -> None:
        """Have a turn at once behind what a call does, unless one is under way."""


class Events(Protocol):
    """The group, as a replica needs it."""

    def commit(self, index: int, term: int, command: bytes) -> None:
        """A committed entry."""

    def behind(self, leader: NodeId) -> None:
        """The entries needed here are gone at the leader."""

    def role(self) -> None:
        """Leading, leader or term changed, or a transfer began or ended."""
