"""Messages that wait for the disk.

Guarantee:  a message leaves when the write with the number that it needs is durable, and those of a peer that need the same
            in the order they were made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.envelope import Encoded
    from streamd.raft.net import NodeId


class Barrier:
    """What a group may not say yet."""

    def __init__(self, send: Callable[[NodeId, Encoded], None]) -> None:
        self._send = send
        self._held: list[tuple[int, NodeId, Encoded]] = []

    def post(self, to: NodeId, message: Encoded, need: int, synced: int) -> None:
        """Send at once, or hold back."""
        if need <= synced:
            self._send(to, message)
        else:
            self._held.append((need, to, message))

    def release(self, synced: int) -> None:
        """Writes up to this one are durable."""
        if self._held:
            held, self._held = self._held, []
            for need, to, message in held:
                self.post(to, message, need, synced)

    def forget(self) -> None:
        """Say none of it."""
        self._held.clear()
