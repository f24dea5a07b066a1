"""Streams that a service of another room makes in its group, without the meta group: channels of NATS Streaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamd.state.limits import REPLICAS_MAX
from streamd.streams.failures import storage_error
from streamd.streams.replication import ops
from streamd.streams.stream import Stream
from streamd.tokens import number_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.errors import ApiError
    from streamd.api.stream import StreamConfig
    from streamd.errors import StoreError
    from streamd.streams.replication.replica import Replica
    from streamd.streams.shelf import Shelf


def own_uid() -> int:
    """A uid that nobody else gives."""
    return ops.FIRST_OWN_UID + number_below(ops.FIRST_OWN_UID)


class GroupStreams:
    """Makes, changes and removes streams by the log of one group; only while this server leads it."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._clock = replica.services.clock
        #: How many servers have each stream, as far as its configuration can tell.
        self.replicas = min(len(replica.group.config.voters), REPLICAS_MAX)

    def create_stream(
        self, config: StreamConfig, done: Callable[[Stream, ApiError | None], None], *, channel: str | None = None
    ) -> None:
        """Make a stream; `done` once this server's replica has it."""
        uid = own_uid()
        definition = self._definition(config, self._clock.now_ns(), uid, channel)

        def finish(result: tuple[Any, ...], error: StoreError | None) -> None:
            owner = result[0] if result else None
            if isinstance(owner, Stream):
                done(owner, None)
            elif error is not None:
                done(self._replica.holding.new_stream(uid, definition), storage_error(error))

        self._replica.proposals.alone(ops.defined(ops.OPEN, uid, definition), finish)

    def open_shelf(self, service: str, about: dict[str, Any], done: Callable[[Shelf], None]) -> None:
        """Make the shelf of a service."""
        uid = own_uid()
        definition = {"name": service, "service": service, "group": self._replica.name, "uid": uid, **about}

        def finish(result: tuple[Any, ...], error: StoreError | None) -> None:
            if error is None and result:
                done(result[0])

        self._replica.proposals.alone(ops.defined(ops.OPEN, uid, definition), finish)

    def update_stream(self, stream: Stream, config: StreamConfig, done: Callable[[ApiError | None], None]) -> None:
        """Take on a configuration."""
        definition = self._definition(config, stream.created_ns, stream.uid, stream.channel)

        def finish(_result: tuple[Any, ...], error: StoreError | None) -> None:
            done(None if error is None else storage_error(error))

        self._replica.proposals.alone(ops.defined(ops.CONFIGURE, stream.uid, definition), finish)

    def delete_stream(self, stream: Stream, done: Callable[[ApiError | None], None]) -> None:
        """Remove a stream."""

        def finish(_result: tuple[Any, ...], error: StoreError | None) -> None:
            done(None if error is None else storage_error(error))

        self._replica.proposals.alone(ops.Op(ops.DROP, stream.uid, b""), finish)

    def _definition(self, config: StreamConfig, created_ns: int, uid: int, channel: str | None) -> dict[str, Any]:
        fields = {
            "name": config.name,
            "created": created_ns,
            "config": config.wire(),
            "group": self._replica.name,
            "uid": uid,
        }
        return fields if channel is None else {**fields, "channel": channel}
