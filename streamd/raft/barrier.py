"""Messages that wait for the disk.

Guarantee:  a message leaves when the write with the number that it needs is durable, and those of a peer that need the same
            in the order they were made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.raft.net import NodeId


class Barrier:
    """What a group may not say yet."""

    def __init__(self, send: Callable[[NodeId, bytes], None]) -> None:
        self._send = send
        self._held: list[tuple[int, NodeId, bytes]] = []

    def post(self, to: NodeId, data: bytes, need: int, synced: int) -> None:
        """Send at once, or hold back."""
        if need <= synced:
            self._send(to, data)
        else:
            self._held.append((need, to, data))

    def release(self, synced: int) -> None:
        """Writes up to this one are durable."""
        if self._held:
            held, self._held = self._held, []
            for need, to, data in held:
                self.post(to, data, need, synced)

    def forget(self) -> None:
        """Say none of it."""
        self._held.clear()
