"""Moves of streams between groups and servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.api.errors import REPLICAS_NOT_UPDATABLE

if TYPE_CHECKING:
    from streamd.api.stream import StreamConfig
    from streamd.state.meta import Assignment
    from streamd.streams.api import Call
    from streamd.streams.replication.node import Replication


class Mover:
    """Moves."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication

    def update(self, call: Call, stream: Assignment, config: StreamConfig, names: tuple[str, ...]) -> None:
        """Errors: ApiError."""
        raise REPLICAS_NOT_UPDATABLE()

    def away(self, call: Call, stream: Assignment, names: tuple[str, ...]) -> None:
        """Errors: ApiError."""
        raise REPLICAS_NOT_UPDATABLE()
