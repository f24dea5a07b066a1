"""The network between nodes, as this room needs it.

In the walk:  `Host` sends and gets its frames here, and machines fetch state with `call`; `cluster/` implements it over
              subjects, the simulator over a heap of events.
Guarantee:    none: frames may be lost, doubled, delayed and reordered. All calls belong to the loop thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from streamd._engine import Payload

if TYPE_CHECKING:
    from collections.abc import Callable

NodeId: TypeAlias = str  # "name#incarnation": another store is another node
Data: TypeAlias = bytes | Payload  # a frame as it came, here or where the network has it


class Net(Protocol):
    """What one node can say to others."""

    node: NodeId

    def send(self, to: NodeId, *pieces: bytes) -> None:
        """Send a frame, in pieces, perhaps; it leaves soon. Never blocks, never raises."""

    def flush(self) -> None:
        """Have what was sent leave now."""

    def on_frame(self, handler: Callable[[Data], None]) -> None:
        """Who gets the frames that come."""

    def call(
        self, to: NodeId, what: str, payload: bytes, done: Callable[[bytes | None], None], *, timeout_ns: int
    ) -> None:
        """Ask a node. `done` is called once: with the answer, or None if there was none in time or the link broke. What was
        asked by a process of this node that has ended may be answered now: that is no answer to anything asked since."""

    def serve(self, what: str, handler: Callable[[NodeId, bytes, Callable[[bytes], None]], None]) -> None:
        """Who answers a kind of call: handler(from, payload, answer); `answer` may be called later, once."""

    def linked(self) -> set[NodeId]:
        """The nodes that can be reached now, as far as is known."""

    def on_link(self, handler: Callable[[NodeId, bool], None]) -> None:
        """Who is told, at once, that a node came or went."""
